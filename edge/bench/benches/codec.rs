//! The codec alone: wire bytes to JSON and back, by tables, by `prost-reflect` with `serde_json`, and by generated types.
fn main() {}
