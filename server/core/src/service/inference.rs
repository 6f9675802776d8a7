//! `inference.GRPCInferenceService` but for ModelInfer: liveness, readiness, metadata,
//! statistics, streams.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::catalog::{State, parse_version};
use crate::error::Dialect;
use crate::model::TensorSpec;
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::proto::inference::model_metadata_response::TensorMetadata;
use crate::proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest,
    ModelStatisticsResponse, ModelStreamInferResponse, ServerLiveRequest, ServerLiveResponse,
    ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
};
use crate::service::{infer, statistics, stream};
use crate::shard::{Handle, Shard, Shared};

/// The service. Calls that it does not have are UNIMPLEMENTED.
#[derive(Debug)]
pub struct Inference {
    shared: Arc<Shared>,
    shard: Handle,
}

impl Inference {
    /// The service of one shard.
    pub fn new(shared: Arc<Shared>, shard: Handle) -> Self {
        Self { shared, shard }
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Inference {
    async fn server_live(
        &self,
        _: Request<ServerLiveRequest>,
    ) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(
        &self,
        _: Request<ServerReadyRequest>,
    ) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = self.shared.catalog.read().is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    /// An unknown model is not ready, and no error: clients poll until it is.
    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.into_inner();
        parse_version(&version).map_err(|error| error.status(Dialect::Inference))?;
        let ready = self.shared.catalog.read().find(&name, &version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: self.shared.server_name.clone(),
            version: self.shared.server_version.clone(),
            extensions: Vec::new(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let book = self.shared.catalog.read();
        let model = book.find(&name, &version).map_err(|error| error.status(Dialect::Inference))?;
        let describe = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.dtype.name().to_owned(),
            shape: spec.dims.clone(),
        };
        let ready = book.versions(&name).into_iter().flatten();
        let ready = ready.filter(|(_, state)| matches!(state, State::Ready(_)));
        Ok(Response::new(ModelMetadataResponse {
            versions: match version.is_empty() {
                true => ready.map(|(version, _)| version.to_string()).collect(),
                false => vec![version],
            },
            name,
            platform: "onnxruntime_onnx".to_owned(),
            inputs: model.spec.inputs.iter().map(describe).collect(),
            outputs: model.spec.outputs.iter().map(describe).collect(),
            ..Default::default()
        }))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let book = self.shared.catalog.read();
        let model = book.find(&name, &version).map_err(|error| error.status(Dialect::Inference))?;
        Ok(Response::new(ModelConfigResponse { config: Some(model.spec.config.clone()) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let Shared { catalog, metrics, .. } = &*self.shared;
        statistics::answer(&catalog.read(), metrics, request.get_ref()).map(Response::new)
    }

    /// Answers leave in the order of their requests.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<BoxStream<ModelStreamInferResponse>>, Status> {
        let shard = self.shard.clone();
        let errors_end_it =
            request.metadata().get("triton_grpc_error").is_some_and(|value| value == "true");
        let answer = move |request| Box::pin(one(shard.clone(), request, errors_end_it));
        Ok(stream::start(request.into_inner(), FuturesOrdered::new(), answer))
    }
}

/// A request that fails is answered by its error, and the stream goes on, unless the client wants
/// it to end.
async fn one(
    shard: Handle,
    request: ModelInferRequest,
    errors_end_it: bool,
) -> Result<ModelStreamInferResponse, Status> {
    let id = request.id.clone();
    let work = async move |shard: Rc<Shard>| {
        shard.answer_one(request, Dialect::Inference, infer::answer_one).await
    };
    match shard.run(work).await.flatten() {
        Ok(infer_response) => {
            Ok(ModelStreamInferResponse { error_message: String::new(), infer_response })
        }
        Err(error) if errors_end_it => Err(error.status(Dialect::Inference)),
        Err(error) => Ok(ModelStreamInferResponse {
            error_message: error.message(Dialect::Inference),
            infer_response: infer::empty(id),
        }),
    }
}
