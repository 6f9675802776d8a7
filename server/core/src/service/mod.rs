//! The services: what turns messages into checked requests, and answers into messages.

use std::sync::Arc;

use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::service::Routes;

use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::proto::health::health_server::HealthServer;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::proto::sigmax::classifier_service_server::ClassifierServiceServer;
use crate::proto::{DESCRIPTORS, sigmax};
use crate::shard::{Handle, Shared};
use crate::tensor::DType;

pub mod classifier;
pub mod health;
pub mod inference;
pub mod stream;
pub mod validate;

/// Everything but the hot calls, by tonic.
pub fn routes(shared: &Arc<Shared>, handle: &Handle) -> Routes {
    let classifier = classifier::Classifier::new(shared.clone(), handle.clone());
    let inference = inference::Inference::new(shared.clone(), handle.clone());
    let health = health::Health::new(shared.clone());
    let limit = shared.message_limit;
    let mut routes = Routes::builder();
    routes
        .add_service(
            ClassifierServiceServer::new(classifier)
                .max_decoding_message_size(limit)
                // Decompressed before tonic gets them; here they are only told to clients.
                .accept_compressed(Gzip)
                .accept_compressed(Deflate),
        )
        .add_service(
            GrpcInferenceServiceServer::new(inference)
                .max_decoding_message_size(limit)
                .accept_compressed(Gzip)
                .accept_compressed(Deflate),
        )
        .add_service(HealthServer::new(health));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .include_reflection_service(true)
    };
    // The descriptors are the build's own: they parse, or no test has ever passed.
    routes.add_service(reflection().build_v1().expect("descriptors parse"));
    routes.add_service(reflection().build_v1alpha().expect("descriptors parse"));
    routes.routes()
}

/// Whether an answer with tensors of so many bytes may be made.
pub fn fits(found: usize, spec: &ModelSpec) -> Result<()> {
    match spec.limits.answer {
        limit if found > limit => Err(Error::ReplyTooLarge { found, limit }),
        _ => Ok(()),
    }
}

/// The wire's name of a dtype.
pub fn wire_dtype(dtype: DType) -> sigmax::DataType {
    match dtype {
        DType::Bool => sigmax::DataType::Bool,
        DType::Uint8 => sigmax::DataType::Uint8,
        DType::Uint16 => sigmax::DataType::Uint16,
        DType::Uint32 => sigmax::DataType::Uint32,
        DType::Uint64 => sigmax::DataType::Uint64,
        DType::Int8 => sigmax::DataType::Int8,
        DType::Int16 => sigmax::DataType::Int16,
        DType::Int32 => sigmax::DataType::Int32,
        DType::Int64 => sigmax::DataType::Int64,
        DType::Fp16 => sigmax::DataType::Fp16,
        DType::Bf16 => sigmax::DataType::Bf16,
        DType::Fp32 => sigmax::DataType::Fp32,
        DType::Fp64 => sigmax::DataType::Fp64,
        DType::Bytes => sigmax::DataType::Bytes,
    }
}

/// The dtype of a wire number: nothing where unspecified, its text where unknown.
pub fn dtype_of_wire(number: i32) -> Option<Result<DType, String>> {
    if number == 0 {
        return None;
    }
    let dtype = DType::ALL.into_iter().find(|dtype| wire_dtype(*dtype) as i32 == number);
    Some(dtype.ok_or_else(|| format!("the unknown DataType {number}")))
}
