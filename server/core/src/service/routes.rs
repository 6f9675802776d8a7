//! Tonic's routes: every call but the two hot ones.

use std::sync::Arc;

use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::service::Routes;

use crate::proto::DESCRIPTORS;
use crate::proto::health::health_server::HealthServer;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use crate::proto::sigmax::classifier_service_server::ClassifierServiceServer;
use crate::service::classifier::service::Classifier;
use crate::service::health::Health;
use crate::service::inference::service::Inference;
use crate::shard::Service;
use crate::shard::handle::Handle;
use crate::state::ServerState;

/// Tonic's routes: every call of the services but the two hot ones, and reflection.
pub fn routes<S: Service>(state: &Arc<ServerState>, handle: &Handle<S>) -> Routes {
    let classifier = Classifier::new(state.clone(), handle.clone());
    let inference = Inference::new(state.clone(), handle.clone());
    let health = Health::new(state.clone());
    let limit = state.message_limit;
    let mut routes = Routes::builder();
    routes
        .add_service(
            ClassifierServiceServer::new(classifier)
                .max_decoding_message_size(limit)
                // Messages are decompressed before tonic gets them: the encodings are named here
                // only so that clients are told of them.
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
            // Clients such as grpcurl print the details of an error by these.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .include_reflection_service(true)
    };
    if !state.reflection {
        return routes.routes();
    }
    // The descriptors are the build's own: they parse, or no test has ever passed.
    routes.add_service(reflection().build_v1().expect("descriptors parse"));
    routes.add_service(reflection().build_v1alpha().expect("descriptors parse"));
    routes.routes()
}
