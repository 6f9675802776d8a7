//! `sigmax.v1.ClassifierService` but for Classify: streams, and what there is to ask.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::catalog::{State, newest_ready};
use crate::error::Dialect;
use crate::model::{self, TensorSpec};
use crate::proto::sigmax::classifier_service_server::ClassifierService;
use crate::proto::sigmax::classify_stream_response::Result as Outcome;
use crate::proto::sigmax::{
    ClassifyStreamRequest, ClassifyStreamResponse, GetModelRequest, GetModelResponse,
    ListModelsRequest, ListModelsResponse, Model, ModelState, ModelSummary, ModelVersion,
    StreamError, Task, TensorDescription,
};
use crate::service::wire_dtype;
use crate::shard::{Handle, Shared};

/// Requests of one stream that run at once; the next is read when one is answered.
const AT_ONCE: usize = 1024;

/// The service.
#[derive(Debug)]
pub struct Classifier {
    shared: Arc<Shared>,
    shard: Handle,
}

impl Classifier {
    /// The service of one shard.
    pub fn new(shared: Arc<Shared>, shard: Handle) -> Self {
        Self { shared, shard }
    }
}

#[tonic::async_trait]
impl ClassifierService for Classifier {
    async fn classify_stream(
        &self,
        request: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<BoxStream<ClassifyStreamResponse>>, Status> {
        let (answers, replies) = mpsc::channel(AT_ONCE);
        tokio::spawn(stream(self.shard.clone(), request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let book = self.shared.catalog.read();
        let summary = |(name, versions): (&str, &BTreeMap<u64, State>)| ModelSummary {
            name: name.to_owned(),
            versions: wire_versions(versions),
            task: newest_ready(versions).map_or(Task::Unspecified, |m| wire_task(m.spec.task))
                as i32,
        };
        Ok(Response::new(ListModelsResponse { models: book.models().map(summary).collect() }))
    }

    async fn get_model(
        &self,
        request: Request<GetModelRequest>,
    ) -> Result<Response<GetModelResponse>, Status> {
        let GetModelRequest { model_name, model_version } = request.into_inner();
        let book = self.shared.catalog.read();
        let model = book
            .find(&model_name, &model_version)
            .map_err(|error| error.status(Dialect::Sigmax))?;
        let versions = book.versions(&model_name).map(wire_versions).unwrap_or_default();
        Ok(Response::new(GetModelResponse { model: Some(wire_model(model, versions)) }))
    }
}

type Answers = mpsc::Sender<Result<ClassifyStreamResponse, Status>>;
type Running = Pin<Box<dyn Future<Output = ClassifyStreamResponse> + Send>>;

/// Runs the requests of a stream side by side, until the client has half-closed and all are
/// answered, or the client is gone.
async fn stream(shard: Handle, mut requests: Streaming<ClassifyStreamRequest>, answers: Answers) {
    let mut running: FuturesUnordered<Running> = FuturesUnordered::new();
    let mut end = None;
    while end.is_none() || !running.is_empty() {
        tokio::select! {
            request = requests.message(), if end.is_none() && running.len() < AT_ONCE => {
                match request {
                    Ok(Some(request)) => running.push(Box::pin(one(shard.clone(), request))),
                    Ok(None) => end = Some(Ok(())),
                    Err(status) => end = Some(Err(too_large(status))),
                }
            }
            Some(answer) = running.next() => {
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            () = answers.closed() => return,
        }
    }
    if let Some(Err(status)) = end {
        let _ = answers.send(Err(status)).await;
    }
}

async fn one(shard: Handle, request: ClassifyStreamRequest) -> ClassifyStreamResponse {
    let ClassifyStreamRequest { id, request } = request;
    let result = match shard.classify(request.unwrap_or_default()).await {
        Ok(response) => Outcome::Response(response),
        Err(error) => Outcome::Error(StreamError {
            code: error.code(Dialect::Sigmax) as i32,
            message: error.message(Dialect::Sigmax),
            reason: error.reason().to_owned(),
        }),
    };
    ClassifyStreamResponse { id, result: Some(result) }
}

/// tonic calls a message over the limit OUT_OF_RANGE; its text has both sizes.
fn too_large(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Status::new(Code::ResourceExhausted, status.message()),
        _ => status,
    }
}

fn wire_versions(versions: &BTreeMap<u64, State>) -> Vec<ModelVersion> {
    let wire = |(version, state): (&u64, &State)| {
        let (state, reason) = match state {
            State::Loading => (ModelState::Loading, "it is being loaded".to_owned()),
            State::Ready(_) => (ModelState::Ready, String::new()),
            State::Unavailable(reason) => (ModelState::Unavailable, reason.clone()),
        };
        ModelVersion { version: version.to_string(), state: state as i32, reason }
    };
    versions.iter().rev().map(wire).collect()
}

fn wire_task(task: Option<model::Task>) -> Task {
    match task {
        None => Task::Unspecified,
        Some(model::Task::Binary) => Task::Binary,
        Some(model::Task::Multiclass) => Task::Multiclass,
        Some(model::Task::Multilabel) => Task::Multilabel,
    }
}

fn wire_model(model: &model::Model, versions: Vec<ModelVersion>) -> Model {
    let model::Model { spec, report } = model;
    let describe = |spec: &TensorSpec| TensorDescription {
        name: spec.name.clone(),
        dtype: wire_dtype(spec.dtype) as i32,
        shape: spec.dims.clone(),
        meaning: spec.meaning.clone(),
    };
    Model {
        name: spec.name.clone(),
        version: spec.version.to_string(),
        versions,
        inputs: spec.inputs.iter().map(describe).collect(),
        outputs: spec.outputs.iter().map(describe).collect(),
        task: wire_task(spec.task) as i32,
        labels: spec.labels.clone(),
        thresholds: spec.thresholds.clone(),
        device: spec.device.clone(),
        max_batch_size: spec.max_batch_size as u32,
        preferred_batch_size: report.preferred_batch_size as u32,
        rows_independent: report.rows_independent,
    }
}
