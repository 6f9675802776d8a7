//! Compiles the protocol's files: messages and services for the core, descriptors for reflection.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message;
use prost_types::field_descriptor_proto::Type;

/// The calls that the core frames by itself (src/unary.rs); tonic serves all others.
const HOT_CALLS: [(&str, &str); 2] =
    [("ClassifierService", "Classify"), ("GRPCInferenceService", "ModelInfer")];

/// Sent as the bytes that the encoders of answers (src/service/reply.rs, infer.rs) have made: on the
/// wire a message field and a bytes field are the same.
const ENCODED: [(&str, &str); 2] =
    [("ClassifyStreamResponse", "response"), ("ModelStreamInferResponse", "infer_response")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", proto.display());
    let files = ["sigmax/v1/classifier.proto", "grpc_service.proto", "grpc/health/v1/health.proto"];
    let mut descriptors = protox::compile(files, [proto.clone(), proto.join("inference")])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;

    for file in &mut descriptors.file {
        for message in &mut file.message_type {
            let name = message.name().to_owned();
            let fields = message.field.iter_mut();
            for field in fields.filter(|field| ENCODED.contains(&(&name, field.name()))) {
                field.set_type(Type::Bytes);
                field.type_name = None;
            }
        }
        for service in &mut file.service {
            let name = service.name().to_owned();
            service.method.retain(|method| !HOT_CALLS.contains(&(name.as_str(), method.name())));
        }
    }
    tonic_prost_build::configure()
        .build_client(false)
        .generate_default_stubs(true)
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
