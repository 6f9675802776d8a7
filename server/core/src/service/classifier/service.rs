//! `sigmax.v1.ClassifierService` without Classify: the stream, and the calls that tell of models.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::access::caller::{Caller, StreamCaller};
use crate::error::Dialect;
use crate::grpc::budget::Held;
use crate::grpc::message::{PackedMessage, Unread};
use crate::model::catalog::{State, newest_ready};
use crate::proto::sigmax::classifier_service_server::ClassifierService;
use crate::proto::sigmax::classify_stream_response::Result as Outcome;
use crate::proto::sigmax::{
    ClassifyStreamRequest, ClassifyStreamResponse, GetModelRequest, GetModelResponse,
    ListModelsRequest, ListModelsResponse, ModelSummary, StreamError, Task,
};
use crate::service::classifier::classify;
use crate::service::classifier::wire::{task_of, wire_model, wire_versions};
use crate::service::stream::{self, Answered};
use crate::shard::Service;
use crate::shard::handle::Handle;
use crate::state::ServerState;

/// The classifier service, as one shard runs it.
#[derive(Debug)]
pub struct Classifier<S> {
    state: Arc<ServerState>,
    shard: Handle<S>,
}

impl<S> Classifier<S> {
    /// The service of one shard.
    pub fn new(state: Arc<ServerState>, shard: Handle<S>) -> Self {
        Self { state, shard }
    }
}

#[tonic::async_trait]
impl<S: Service> ClassifierService for Classifier<S> {
    async fn classify_stream(
        &self,
        request: Request<Streaming<Unread>>,
    ) -> Result<Response<BoxStream<ClassifyStreamResponse>>, Status> {
        let (caller, shard) = (StreamCaller::of(&request)?, self.shard.clone());
        let answer =
            move |one, held| Box::pin(classify_one(shard.clone(), caller.now(), one, held));
        stream::start(request, FuturesUnordered::new(), answer)
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let snapshot = self.state.catalog.read();
        let summary = |(name, versions): (&str, &BTreeMap<u64, State>)| ModelSummary {
            name: name.to_owned(),
            versions: wire_versions(versions),
            task: newest_ready(versions).map_or(Task::Unspecified, |model| task_of(model)) as i32,
        };
        let models = snapshot.models().filter(|(name, _)| caller.sees(name)).map(summary);
        Ok(Response::new(ListModelsResponse { models: models.collect() }))
    }

    async fn get_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        let caller = Caller::of(&request)?;
        let GetModelRequest { model_name, model_version } = request.into_inner();
        caller.may(&model_name).map_err(|error| error.status(Dialect::Sigmax))?;
        let snapshot = self.state.catalog.read();
        let model = snapshot
            .find(&model_name, &model_version)
            .map_err(|error| error.status(Dialect::Sigmax))?;
        let versions = snapshot.versions(&model_name).map(wire_versions).unwrap_or_default();
        Ok(Response::new(GetModelResponse { model: Some(wire_model(model, versions)) }))
    }
}

/// Answers one request of a stream. A request that fails is answered by its error, and the stream
/// goes on; a message that cannot be decoded ends it.
async fn classify_one<S: Service>(
    shard: Handle<S>,
    caller: Caller,
    request: PackedMessage,
    mut held: Held,
) -> Answered<ClassifyStreamResponse> {
    let ClassifyStreamRequest { id, request } = match request.open(&mut held).await {
        Ok(request) => request,
        Err(error) => return (Err(error.status(Dialect::Sigmax)), held),
    };
    let request = request.unwrap_or_default();
    let more = held.beside();
    let work = async move |service: Rc<S>| {
        stream::run_one(service.shard(), request, &caller, more, &[], classify::classify).await
    };
    let result = match shard.run(work).await.flatten() {
        Ok(response) => Outcome::Response(response),
        Err(error) => Outcome::Error(StreamError {
            code: error.code(Dialect::Sigmax) as i32,
            message: error.message(Dialect::Sigmax),
            reason: error.reason().to_owned(),
        }),
    };
    (Ok(ClassifyStreamResponse { id, result: Some(result) }), held)
}
