// grpc-web: the client of the gRPC-Web project for browsers, here over an XMLHttpRequest for Node.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import grpcWeb from "grpc-web";
import XMLHttpRequest from "xhr2";

globalThis.XMLHttpRequest = XMLHttpRequest;

export function* all(address, zoo) {
  for (const format of ["binary", "text"]) yield [`grpc-web ${format}`, calls(address, zoo, format)];
}

function calls(address, zoo, format) {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const prepared = (name, message, type = grpcWeb.MethodType.UNARY) => {
    const method = zoo.method[name];
    const path = `/${zoo.typeName}/${method.name}`;
    const descriptor = new grpcWeb.MethodDescriptor(
      path,
      type,
      Object,
      Object,
      (request) => toBinary(method.input, request),
      (bytes) => fromBinary(method.output, bytes),
    );
    return [`http://${address}${path}`, create(method.input, message), descriptor];
  };
  const unary = (name, message, metadata = {}) =>
    new Promise((resolve, reject) => {
      const [url, request, descriptor] = prepared(name, message);
      const got = {};
      const call = client.rpcCall(url, request, metadata, descriptor, (error, reply) =>
        error ? reject(error) : setImmediate(() => resolve({ ...got, reply })));
      call.on("metadata", (headers) => (got.headers = headers));
      call.on("status", (status) => (got.trailers = status.metadata));
    });
  const stream = (message, metadata = {}) =>
    new Promise((resolve) => {
      const [url, request, descriptor] = prepared("watch", message, grpcWeb.MethodType.SERVER_STREAMING);
      const legs = [];
      const call = client.serverStreaming(url, request, metadata, descriptor);
      call.on("data", (reply) => legs.push(reply.legs));
      call.on("error", (error) => resolve({ legs, error }));
      call.on("end", () => resolve({ legs }));
    });
  const told = (error) => ({ code: error.code, message: error.message, metadata: error.metadata["x-why"] });
  const all = {
    async unary() {
      const trace = Buffer.from([0, 255, 3]).toString("base64");
      const got = await unary("getAnimal", { name: "leo", legs: 4 }, { "x-tenant": "t1", "x-trace-bin": trace });
      return {
        name: got.reply.name,
        legs: got.reply.legs,
        tenant: got.headers["x-tenant"],
        trace: [...Buffer.from(got.headers["x-trace-bin"], "base64")],
        trailer: got.trailers["x-last"],
      };
    },
    error: () => unary("getAnimal", { name: "gone" }).then(() => "no error", told),
    // The client has a clock of its own for its deadlines, so the header alone is set.
    deadline: () => unary("getAnimal", { name: "asleep" }, { "grpc-timeout": "300m" }).then(() => "no error", (error) => error.code),
    unknown: () => unary("unannotated", {}).then(() => "no error", (error) => error.code),
    async large() {
      return (await unary("echo", { stringValue: "x".repeat(300_000) })).reply.stringValue.length;
    },
  };
  // In binary the client has no streams; and this XMLHttpRequest hands out nothing before the end, so none can be left halfway.
  if (format === "text") {
    Object.assign(all, {
      async serverStream() {
        return (await stream({ name: "leo", legs: 3 })).legs;
      },
      async serverStreamError() {
        const { legs, error } = await stream({ name: "gone", legs: 2 });
        return { legs, ...told(error) };
      },
      async serverStreamDeadline() {
        return (await stream({ name: "endless" }, { "grpc-timeout": "300m" })).error.code;
      },
    });
  }
  return all;
}
