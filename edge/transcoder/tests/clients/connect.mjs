// @connectrpc/connect-node: Connect, gRPC and gRPC-Web, over both versions of HTTP.

import { ConnectError, createClient, decodeBinaryHeader, encodeBinaryHeader } from "@connectrpc/connect";
import { compressionGzip, createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { noise } from "./noise.mjs";

export function* all(address, zoo) {
  const baseUrl = `http://${address}`;
  for (const httpVersion of ["1.1", "2"]) {
    for (const useBinaryFormat of [false, true]) {
      const format = useBinaryFormat ? "proto" : "json";
      const options = { baseUrl, httpVersion, useBinaryFormat, acceptCompression: [] };
      yield [`connect ${format} HTTP/${httpVersion}`, calls(createConnectTransport(options), zoo, httpVersion)];
      const compressed = { ...options, acceptCompression: [compressionGzip], sendCompression: compressionGzip, compressMinBytes: 0 };
      yield [`connect ${format} gzip HTTP/${httpVersion}`, calls(createConnectTransport(compressed), zoo, httpVersion)];
      const get = createConnectTransport({ ...options, useHttpGet: true });
      yield [`connect ${format} GET HTTP/${httpVersion}`, unaryCalls(get, zoo)];
    }
    yield [`connect-node grpc-web HTTP/${httpVersion}`, calls(createGrpcWebTransport({ baseUrl, httpVersion }), zoo, httpVersion)];
  }
  yield ["connect-node grpc", calls(createGrpcTransport({ baseUrl }), zoo, "2")];
  const gzip = { acceptCompression: [compressionGzip], sendCompression: compressionGzip, compressMinBytes: 0 };
  yield ["connect-node grpc gzip", calls(createGrpcTransport({ baseUrl, ...gzip }), zoo, "2")];
}

// What a failed call tells, the same for every protocol.
function told(error) {
  const { code, rawMessage, metadata, details } = ConnectError.from(error);
  const types = details.map((detail) => detail.type);
  return { code, message: rawMessage, metadata: metadata.get("x-why"), details: types };
}

function unaryCalls(transport, zoo) {
  const client = createClient(zoo, transport);
  return {
    async unary() {
      const headers = {};
      const reply = await client.getAnimal({ name: "leo", legs: 4 }, {
        headers: { "x-tenant": "t1", "x-trace-bin": encodeBinaryHeader(new Uint8Array([0, 255, 3])) },
        onHeader: (metadata) => {
          headers.tenant = metadata.get("x-tenant");
          headers.trace = [...decodeBinaryHeader(metadata.get("x-trace-bin"))];
        },
        onTrailer: (metadata) => (headers.trailer = metadata.get("x-last")),
      });
      return { name: reply.name, legs: reply.legs, ...headers };
    },
    async error() {
      return client.getAnimal({ name: "gone" }).then(() => "no error", told);
    },
    async deadline() {
      return client.getAnimal({ name: "asleep" }, { timeoutMs: 300 }).then(() => "no error", (error) => error.code);
    },
  };
}

function calls(transport, zoo, httpVersion) {
  const client = createClient(zoo, transport);
  const all = {
    ...unaryCalls(transport, zoo),
    async unknown() {
      return client.unannotated({}).then(() => "no error", (error) => error.code);
    },
    async large() {
      const reply = await client.echo({ stringValue: "x".repeat(300_000) });
      return reply.stringValue.length;
    },
    async serverStream() {
      const legs = [];
      for await (const reply of client.watch({ name: "leo", legs: 3 })) legs.push(reply.legs);
      return legs;
    },
    async serverStreamError() {
      const legs = [];
      try {
        for await (const reply of client.watch({ name: "gone", legs: 2 })) legs.push(reply.legs);
      } catch (error) {
        return { legs, ...told(error) };
      }
      return "no error";
    },
    async serverStreamDeadline() {
      try {
        for await (const _ of client.watch({ name: "endless" }, { timeoutMs: 300 }));
      } catch (error) {
        return error.code;
      }
      return "no error";
    },
    async cancel() {
      const aborted = new AbortController();
      const legs = [];
      try {
        for await (const reply of client.watch({ name: "endless" }, { signal: aborted.signal })) {
          legs.push(reply.legs);
          aborted.abort();
        }
      } catch (error) {
        return { legs, code: error.code };
      }
      return "no error";
    },
    async clientStream() {
      const sent = async function* () {
        for (const legs of [1, 2, 3]) yield { legs };
      };
      let sum;
      await client.feed(sent(), { onHeader: (metadata) => (sum = metadata.get("x-sum")) });
      return sum;
    },
  };
  if (httpVersion === "2") {
    // Over HTTP/1.1 the connection is closed while the request is still being written, so the answer may be lost.
    all.tooLarge = () => client.echo({ bytesValue: noise() }).then(() => "no error", (error) => error.code);
    all.bidirectional = async () => {
      let next;
      const turn = () => new Promise((resolve) => (next = resolve));
      let answered = turn();
      const sent = async function* () {
        for (const text of ["a", "b", "c"]) {
          yield { stringValue: text };
          // Each is sent only when the one before it was answered.
          await answered;
          answered = turn();
        }
      };
      const got = [];
      for await (const reply of client.chat(sent())) {
        got.push(reply.stringValue);
        next();
      }
      return got;
    };
  }
  return all;
}
