//! `inference.GRPCInferenceService` without ModelInfer: liveness, readiness, metadata, statistics,
//! repositories, shared memory, and the stream.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::access::caller::{Caller, StreamCaller};
use crate::error::{Dialect, Error};
use crate::grpc::budget::Held;
use crate::grpc::message::{PackedMessage, Unread};
use crate::model::TensorSpec;
use crate::model::catalog::{State, parse_version};
use crate::proto::inference::grpc_inference_service_server::GrpcInferenceService;
use crate::proto::inference::model_metadata_response::TensorMetadata;
use crate::proto::inference::{
    CudaSharedMemoryRegisterRequest, CudaSharedMemoryRegisterResponse,
    CudaSharedMemoryStatusRequest, CudaSharedMemoryStatusResponse,
    CudaSharedMemoryUnregisterRequest, CudaSharedMemoryUnregisterResponse, LogSettingsRequest,
    LogSettingsResponse, ModelConfigRequest, ModelConfigResponse, ModelInferRequest,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryRegisterResponse, SystemSharedMemoryStatusRequest,
    SystemSharedMemoryStatusResponse, SystemSharedMemoryUnregisterRequest,
    SystemSharedMemoryUnregisterResponse,
};
use crate::service::inference::{infer, logging, reply, repository, shared_memory, statistics};
use crate::service::stream::{self, Answered};
use crate::shard::Service;
use crate::shard::handle::Handle;
use crate::state::ServerState;

/// The inference service, as one shard runs it. Calls that it does not have are UNIMPLEMENTED.
#[derive(Debug)]
pub struct Inference<S> {
    state: Arc<ServerState>,
    shard: Handle<S>,
}

impl<S> Inference<S> {
    /// The extensions of the protocol that work here, by the names of Triton's documents.
    fn extensions(&self) -> Vec<String> {
        let always = [
            "classification",
            "model_configuration",
            "schedule_policy",
            "binary_tensor_data",
            "parameters",
            "statistics",
        ];
        let control = self.state.model_control.is_some();
        let sometimes = [
            (control, "model_repository"),
            (control, "model_repository(unload_dependents)"),
            (self.state.regions.are_allowed(), "system_shared_memory"),
            (self.state.log_settings, "logging"),
        ];
        let sometimes = sometimes.into_iter().filter_map(|(works, name)| works.then_some(name));
        always.into_iter().chain(sometimes).map(str::to_owned).collect()
    }

    /// The service of one shard.
    pub fn new(state: Arc<ServerState>, shard: Handle<S>) -> Self {
        Self { state, shard }
    }
}

#[tonic::async_trait]
impl<S: Service> GrpcInferenceService for Inference<S> {
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
        let ready = self.state.catalog.read().is_ready();
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    /// Answers whether a model is ready. An unknown model is not ready, which is no error: clients
    /// poll until it is.
    async fn model_ready(
        &self,
        request: Request<ModelReadyRequest>,
    ) -> Result<Response<ModelReadyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ModelReadyRequest { name, version } = request.into_inner();
        caller.may(&name).map_err(to_status)?;
        parse_version(&version).map_err(|error| error.status(Dialect::Inference))?;
        let ready = self.state.catalog.read().find(&name, &version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: self.state.server_name.clone(),
            version: self.state.server_version.clone(),
            extensions: self.extensions(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let caller = Caller::of(&request)?;
        let ModelMetadataRequest { name, version } = request.into_inner();
        caller.may(&name).map_err(to_status)?;
        let snapshot = self.state.catalog.read();
        let model =
            snapshot.find(&name, &version).map_err(|error| error.status(Dialect::Inference))?;
        let describe = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.dtype.name().to_owned(),
            shape: spec.dims.clone(),
        };
        let ready = snapshot.versions(&name).into_iter().flatten();
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
        let caller = Caller::of(&request)?;
        let ModelConfigRequest { name, version } = request.into_inner();
        caller.may(&name).map_err(to_status)?;
        let snapshot = self.state.catalog.read();
        let model =
            snapshot.find(&name, &version).map_err(|error| error.status(Dialect::Inference))?;
        Ok(Response::new(ModelConfigResponse { config: Some(model.spec.config.clone()) }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let caller = Caller::of(&request)?;
        let index = repository::index(&self.state, request.into_inner()).await;
        to_response(index.map(|mut index| {
            index.models.retain(|model| caller.sees(&model.name));
            index
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let model = request.model_name.clone();
        caller.may(&model).map_err(to_status)?;
        let loaded = repository::load(&self.state, request).await;
        caller.record(Some(&model), &loaded);
        to_response(loaded.map(|()| RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let model = request.model_name.clone();
        caller.may(&model).map_err(to_status)?;
        let unloaded = repository::unload(&self.state, request).await;
        caller.record(Some(&model), &unloaded);
        to_response(unloaded.map(|()| RepositoryModelUnloadResponse {}))
    }

    async fn log_settings(
        &self,
        request: Request<LogSettingsRequest>,
    ) -> Result<Response<LogSettingsResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        if request.settings.is_empty() {
            return to_response(logging::settings(request, self.state.log_settings));
        }
        caller.may_control().map_err(to_status)?;
        let changed = logging::settings(request, self.state.log_settings);
        caller.record(None, &changed);
        to_response(changed)
    }

    async fn system_shared_memory_status(
        &self,
        request: Request<SystemSharedMemoryStatusRequest>,
    ) -> Result<Response<SystemSharedMemoryStatusResponse>, Status> {
        to_response(shared_memory::status(&self.state.regions, &request.get_ref().name))
    }

    async fn system_shared_memory_register(
        &self,
        request: Request<SystemSharedMemoryRegisterRequest>,
    ) -> Result<Response<SystemSharedMemoryRegisterResponse>, Status> {
        let registered = shared_memory::register(&self.state.regions, request.get_ref());
        Caller::of(&request)?.record(None, &registered);
        to_response(registered.map(|()| SystemSharedMemoryRegisterResponse {}))
    }

    async fn system_shared_memory_unregister(
        &self,
        request: Request<SystemSharedMemoryUnregisterRequest>,
    ) -> Result<Response<SystemSharedMemoryUnregisterResponse>, Status> {
        let unregistered = self.state.regions.unregister(&request.get_ref().name);
        Caller::of(&request)?.record(None, &unregistered);
        to_response(unregistered.map(|()| SystemSharedMemoryUnregisterResponse {}))
    }

    async fn cuda_shared_memory_status(
        &self,
        request: Request<CudaSharedMemoryStatusRequest>,
    ) -> Result<Response<CudaSharedMemoryStatusResponse>, Status> {
        let CudaSharedMemoryStatusRequest { name: region } = request.into_inner();
        to_response(match region.as_str() {
            "" => Ok(CudaSharedMemoryStatusResponse::default()),
            _ => Err(Error::UnknownCudaRegion { region }),
        })
    }

    async fn cuda_shared_memory_register(
        &self,
        request: Request<CudaSharedMemoryRegisterRequest>,
    ) -> Result<Response<CudaSharedMemoryRegisterResponse>, Status> {
        let registered = Err(Error::NoGpu { region: request.get_ref().name.clone() });
        Caller::of(&request)?.record(None, &registered);
        to_response(registered)
    }

    async fn cuda_shared_memory_unregister(
        &self,
        request: Request<CudaSharedMemoryUnregisterRequest>,
    ) -> Result<Response<CudaSharedMemoryUnregisterResponse>, Status> {
        Caller::of(&request)?.record(None, &Ok(()));
        Ok(Response::new(CudaSharedMemoryUnregisterResponse {}))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let caller = Caller::of(&request)?;
        if !request.get_ref().name.is_empty() {
            caller.may(&request.get_ref().name).map_err(to_status)?;
        }
        let ServerState { catalog, metrics, .. } = &*self.state;
        let mut found = statistics::of_models(&catalog.read(), metrics, request.get_ref())?;
        found.model_stats.retain(|model| caller.sees(&model.name));
        Ok(Response::new(found))
    }

    /// Answers leave in the order of their requests.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<Unread>>,
    ) -> Result<Response<BoxStream<ModelStreamInferResponse>>, Status> {
        let (caller, shard) = (StreamCaller::of(&request)?, self.shard.clone());
        let errors_end_it =
            request.metadata().get("triton_grpc_error").is_some_and(|value| value == "true");
        let answer = move |one, held| {
            Box::pin(infer_one(shard.clone(), caller.now(), one, held, errors_end_it))
        };
        stream::start(request, FuturesOrdered::new(), answer)
    }
}

fn to_response<T>(result: crate::error::Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(to_status)
}

fn to_status(error: Error) -> Status {
    error.status(Dialect::Inference)
}

/// Answers one request of a stream. A request that fails is answered by its error, and the stream
/// goes on, unless the client wants errors to end it; a message that cannot be decoded ends it.
async fn infer_one<S: Service>(
    shard: Handle<S>,
    caller: Caller,
    request: PackedMessage,
    mut held: Held,
    errors_end_it: bool,
) -> Answered<ModelStreamInferResponse> {
    let request: ModelInferRequest = match request.open(&mut held).await {
        Ok(request) => request,
        Err(error) => return (Err(error.status(Dialect::Inference)), held),
    };
    let id = request.id.clone();
    let more = held.beside();
    let work = async move |service: Rc<S>| {
        stream::run_one(service.shard(), request, &caller, more, &reply::LAST, infer::infer).await
    };
    let answer = match shard.run(work).await.flatten() {
        Ok(infer_response) => {
            Ok(ModelStreamInferResponse { error_message: String::new(), infer_response })
        }
        Err(error) if errors_end_it => Err(error.status(Dialect::Inference)),
        Err(error) => Ok(ModelStreamInferResponse {
            error_message: error.message(Dialect::Inference),
            infer_response: reply::empty(id),
        }),
    };
    (answer, held)
}
