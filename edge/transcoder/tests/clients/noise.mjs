// More than the server takes, however it is compressed.

export function noise() {
  const pieces = Array.from({ length: 20 }, () => crypto.getRandomValues(new Uint8Array(65536)));
  return Buffer.concat(pieces);
}
