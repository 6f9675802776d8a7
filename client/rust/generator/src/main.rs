//! Writes src/gen of the client from the repository's protos; `client/rust/generate` runs it.

use std::error::Error;
use std::path::Path;

use prost_build::Config;

fn main() -> Result<(), Box<dyn Error>> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("expected a folder above")?;
    let proto = client.join("../../proto");
    let files = ["sigmax/v1/classifier.proto", "grpc/health/v1/health.proto"];
    let descriptors = protox::compile(files, [&proto])?;
    let mut config = Config::new();
    config.bytes(["."]).btree_map(["."]).out_dir(client.join("src/gen"));
    config.compile_fds(descriptors)?;
    Ok(())
}
