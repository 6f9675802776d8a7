//! `grpc.health.v1.Health` for "", both inference services, and every model by its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};

use crate::access::caller::Caller;
use crate::error::Dialect;
use crate::grpc::body::Load;
use crate::model::catalog::Snapshot;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server;
use crate::proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use crate::state::ServerState;

/// The names that stand for the server as a whole.
const SERVER: [&str; 3] = ["", "sigmax.v1.ClassifierService", "inference.GRPCInferenceService"];

/// The health service.
#[derive(Debug)]
pub struct Health {
    state: Arc<ServerState>,
}

impl Health {
    /// The health service. Its watches end when the server drains.
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let caller = Caller::of(&request)?;
        let name = request.into_inner().service;
        may_know(&caller, &name)?;
        match status(&self.state.catalog.read(), &name) {
            ServingStatus::ServiceUnknown => {
                Err(Status::not_found(format!("no service or model is named '{name}'")))
            }
            status => Ok(Response::new(HealthCheckResponse { status: status as i32 })),
        }
    }

    async fn list(
        &self,
        request: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let caller = Caller::of(&request)?;
        let snapshot = self.state.catalog.read();
        let models = snapshot.models().map(|(name, _)| name).filter(|name| caller.sees(name));
        let statuses: BTreeMap<_, _> = SERVER
            .into_iter()
            .chain(models)
            .map(|name| {
                let status = status(&snapshot, name) as i32;
                (name.to_owned(), HealthCheckResponse { status })
            })
            .collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        // The request's room in the budget is given back, and its connection has no work: a watch
        // waits for changes, and no client waits for its answer.
        drop(request.extensions().get::<Arc<Load>>().map(|load| load.take()));
        let caller = Caller::of(&request)?;
        let name = request.into_inner().service;
        may_know(&caller, &name)?;
        let start = (self.state.catalog.watch(), name, None);
        let news = stream::unfold(start, async |(mut changes, name, last)| {
            loop {
                let (now, draining) = {
                    let snapshot = changes.borrow_and_update();
                    (status(&snapshot, &name), snapshot.is_draining())
                };
                if last != Some(now) {
                    let response = HealthCheckResponse { status: now as i32 };
                    return Some((Ok(response), (changes, name, Some(now))));
                }
                if draining || changes.changed().await.is_err() {
                    return None;
                }
            }
        });
        Ok(Response::new(Box::pin(news)))
    }
}

/// Checks that a caller may know the health of this name: that of the server is open to everybody.
fn may_know(caller: &Caller, name: &str) -> Result<(), Status> {
    match SERVER.contains(&name) {
        true => Ok(()),
        false => caller.may(name).map_err(|error| error.status(Dialect::Sigmax)),
    }
}

fn status(snapshot: &Snapshot, name: &str) -> ServingStatus {
    let ready = match SERVER.contains(&name) {
        true => Some(snapshot.is_ready()),
        false => snapshot.model_is_ready(name),
    };
    match ready {
        Some(true) => ServingStatus::Serving,
        Some(false) => ServingStatus::NotServing,
        None => ServingStatus::ServiceUnknown,
    }
}
