//! Compiles the measured service: types with `pbjson`'s JSON for the hand-typed gateway, and the descriptor set for the others.

use std::{env, fs, path::PathBuf};

use anyhow::Context as _;

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by environment variables")]
fn main() -> anyhow::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto", "../transcoder/proto/third_party"])?;
    compiler.include_imports(true).open_file("bench.proto")?;
    let descriptor_set = compiler.encode_file_descriptor_set();
    fs::write(out.join("bench.binpb"), &descriptor_set)?;
    tonic_prost_build::configure()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_well_known_types(true)
        .build_server(false)
        .compile_fds(compiler.file_descriptor_set())
        .context("code generation")?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptor_set)?
        .build(&[".bench"])
        .context("JSON of the generated types")?;
    Ok(())
}
