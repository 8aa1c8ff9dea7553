// @grpc/grpc-js: native gRPC by the implementation of the gRPC project.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { noise } from "./noise.mjs";

export function* all(address, zoo) {
  yield ["grpc-js", calls(new (client(zoo))(address, grpc.credentials.createInsecure()))];
  const gzip = { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
  yield ["grpc-js gzip", calls(new (client(zoo))(address, grpc.credentials.createInsecure(), gzip))];
}

// A client class without generated code.
function client(zoo) {
  const methods = Object.values(zoo.method).map((method) => [
    method.localName,
    {
      path: `/${zoo.typeName}/${method.name}`,
      requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
      responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
      requestSerialize: (message) => Buffer.from(toBinary(method.input, create(method.input, message))),
      requestDeserialize: (bytes) => fromBinary(method.input, bytes),
      responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
      responseDeserialize: (bytes) => fromBinary(method.output, bytes),
    },
  ]);
  return grpc.makeGenericClientConstructor(Object.fromEntries(methods), "Zoo");
}

function told(error) {
  const details = error.metadata.get("grpc-status-details-bin");
  return { code: error.code, message: error.details, metadata: error.metadata.get("x-why")[0], details: details.length };
}

function calls(client) {
  // Headers, trailers and reply of a unary call.
  const unary = (method, message, metadata = new grpc.Metadata(), options = {}) =>
    new Promise((resolve, reject) => {
      const got = {};
      const call = client[method](message, metadata, options, (error, reply) =>
        error ? reject(error) : setImmediate(() => resolve({ ...got, reply })));
      call.on("metadata", (headers) => (got.headers = headers));
      call.on("status", (status) => (got.trailers = status.metadata));
    });
  const stream = (call, onData = () => {}) =>
    new Promise((resolve) => {
      const legs = [];
      call.on("data", (reply) => {
        legs.push(reply.legs ?? reply.stringValue);
        onData(reply);
      });
      call.on("error", (error) => resolve({ legs, error }));
      call.on("end", () => resolve({ legs }));
    });
  const soon = () => ({ deadline: Date.now() + 300 });
  return {
    async unary() {
      const metadata = new grpc.Metadata();
      metadata.set("x-tenant", "t1");
      metadata.set("x-trace-bin", Buffer.from([0, 255, 3]));
      const { reply, headers, trailers } = await unary("getAnimal", { name: "leo", legs: 4 }, metadata);
      return {
        name: reply.name,
        legs: reply.legs,
        tenant: headers.get("x-tenant")[0],
        trace: [...headers.get("x-trace-bin")[0]],
        trailer: trailers.get("x-last")[0],
      };
    },
    error: () => unary("getAnimal", { name: "gone" }).then(() => "no error", told),
    deadline: () => unary("getAnimal", { name: "asleep" }, undefined, soon()).then(() => "no error", (error) => error.code),
    unknown: () => unary("unannotated", {}).then(() => "no error", (error) => error.code),
    async large() {
      return (await unary("echo", { stringValue: "x".repeat(300_000) })).reply.stringValue.length;
    },
    tooLarge: () => unary("echo", { bytesValue: noise() }).then(() => "no error", (error) => error.code),
    async serverStream() {
      return (await stream(client.watch({ name: "leo", legs: 3 }))).legs;
    },
    async serverStreamError() {
      return told((await stream(client.watch({ name: "gone", legs: 2 }))).error);
    },
    async serverStreamDeadline() {
      return (await stream(client.watch({ name: "endless" }, new grpc.Metadata(), soon()))).error.code;
    },
    async cancel() {
      const call = client.watch({ name: "endless" });
      const { legs, error } = await stream(call, () => call.cancel());
      return { legs, code: error.code };
    },
    clientStream: () =>
      new Promise((resolve, reject) => {
        const call = client.feed((error) => error && reject(error));
        call.on("metadata", (headers) => resolve(headers.get("x-sum")[0]));
        for (const legs of [1, 2, 3]) call.write({ legs });
        call.end();
      }),
    async bidirectional() {
      const call = client.chat();
      const texts = ["a", "b", "c"];
      call.write({ stringValue: texts.shift() });
      const { legs } = await stream(call, () => {
        // Each is sent only when the one before it was answered.
        const text = texts.shift();
        if (text) call.write({ stringValue: text });
        else call.end();
      });
      return legs;
    },
  };
}
