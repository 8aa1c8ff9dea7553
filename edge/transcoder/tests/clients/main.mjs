// Makes the same calls with each client and prints what each of them saw, as one JSON object.
//
// Arguments: the address of the server, the descriptor set. It is run with node_modules beside it.

import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import * as connect from "./connect.mjs";
import * as grpcJs from "./grpc-js.mjs";
import * as grpcWeb from "./grpc-web.mjs";

const [address, descriptorSet] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptorSet)));
const zoo = registry.getService("zoo.v1.Zoo");

// A call that hangs must not keep the others from being told of.
const late = () => new Promise((resolve) => setTimeout(() => resolve("hangs"), 5000).unref());

const seen = {};
for (const clients of [connect, grpcJs, grpcWeb]) {
  for (const [name, calls] of clients.all(address, zoo)) {
    seen[name] = {};
    for (const [call, make] of Object.entries(calls)) {
      seen[name][call] = await Promise.race([make(), late()]).catch((error) => `failed: ${error.stack}`);
    }
  }
}
process.stdout.write(JSON.stringify(seen), () => process.exit(0));
