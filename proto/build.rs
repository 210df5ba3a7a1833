//! Compiles the `.proto` files beside it with protox (no protoc needed) into Rust types, gRPC stubs
//! and one descriptor set, which YAML, JSON Schema and gRPC reflection are derived from.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: &[&str] = &[
    "segue/config/v1/annotations.proto",
    "segue/config/v1/meta.proto",
    "segue/config/v1/service.proto",
    "segue/config/v1/route.proto",
    "segue/config/v1/traffic_policy.proto",
    "segue/config/v1/access_policy.proto",
    "segue/config/v1/context_policy.proto",
    "segue/config/v1/rollout.proto",
    "segue/config/v1/resource.proto",
    "segue/admin/v1/config_service.proto",
    "segue/admin/v1/status_service.proto",
    "segue/admin/v1/backup_service.proto",
    "segue/admin/v1/token_service.proto",
    "segue/admin/v1/certificate_service.proto",
    "segue/extension/v1/extension.proto",
    "segue/identity/v1/identity_service.proto",
    "segue/report/v1/report.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;

    // Written from protox itself, because prost's own descriptor types drop custom options.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let descriptors = prost_types_set(&compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}

fn prost_types_set(
    bytes: &[u8],
) -> Result<tonic_prost_build::FileDescriptorSet, prost::DecodeError> {
    tonic_prost_build::FileDescriptorSet::decode(bytes)
}
