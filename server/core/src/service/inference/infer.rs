//! `inference.GRPCInferenceService/ModelInfer`: decode, check, run, encode.

use std::mem;
use std::rc::Rc;

use bytes::BytesMut;

use crate::access::caller::Caller;
use crate::error::{Error, Result};
use crate::grpc::budget::Held;
use crate::grpc::head::Call;
use crate::grpc::message::{READ, beside};
use crate::model::ModelSpec;
use crate::proto::inference::ModelInferRequest;
use crate::scheduler::admission::RequestOptions;
use crate::scheduler::request::{Prediction, ValidRequest};
use crate::scheduler::served_model::ServedModel;
use crate::service::inference::inputs::{given, hold_shared, work};
use crate::service::inference::outputs::{Delivery, Wanted, wanted};
use crate::service::inference::parameters::request_options;
use crate::service::inference::reply::encode;
use crate::service::inference::shared_memory::names_region;
use crate::service::promise::keeps_rows;
use crate::service::trace::Trace;
use crate::service::validate::{hold, unique, validate};
use crate::shard::Shard;
use crate::state::ServerState;

/// The path of the call.
pub const PATH: &str = "/inference.GRPCInferenceService/ModelInfer";

/// The parts of a request that are kept while it runs.
#[derive(Debug)]
struct Pending {
    served: Rc<ServedModel>,
    outputs: Vec<Wanted>,
    id: String,
}

/// Answers a request with an encoded ModelInferResponse.
pub async fn infer(
    shard: &Shard,
    request: ModelInferRequest,
    call: Call,
    caller: &Caller,
    held: &mut Held,
    trace: &Trace,
) -> Result<BytesMut> {
    caller.may(&request.model_name)?;
    if names_region(&request) {
        // Regions are of all clients together.
        caller.may_control()?;
    }
    let (pending, valid, request_options) = prepare(shard, request, call, held, trace).await?;
    let result = pending.served.run(valid, request_options).await;
    pending.finish(result, trace, call)
}

/// Finds the model that a request names, and checks the request against it.
async fn prepare(
    shard: &Shard,
    mut request: ModelInferRequest,
    call: Call,
    held: &mut Held,
    trace: &Trace,
) -> Result<(Pending, ValidRequest, RequestOptions)> {
    let id = mem::take(&mut request.id);
    let served = match shard.models.find(&request.model_name, &request.model_version) {
        Ok(served) => served,
        Err(error) => return Err(error.of_request(id)),
    };
    trace.found(&served);
    let result = if work(&request) <= READ {
        validated(&shard.state, &served.model.spec, request, held)
    } else {
        Box::pin(validated_beside(shard, &served, request, held)).await
    };
    match result {
        Ok((outputs, valid, request_options)) => {
            let is_raw = |output: &Wanted| matches!(output.delivery, Delivery::Raw);
            let request_options = RequestOptions {
                ready: Some(call.ready),
                deadline: call.deadline,
                all_outputs: outputs.len() == served.model.spec.outputs.len()
                    && outputs.iter().all(is_raw),
                ..request_options
            };
            Ok((Pending { served, outputs, id }, valid, request_options))
        }
        Err(error) => Err(error.of_request(id)),
    }
}

async fn validated_beside(
    shard: &Shard,
    served: &ServedModel,
    request: ModelInferRequest,
    held: &mut Held,
) -> Result<(Vec<Wanted>, ValidRequest, RequestOptions)> {
    let (state, model, mut more) = (shard.state.clone(), served.model.clone(), held.beside());
    let work = move || Ok((validated(&state, &model.spec, request, &mut more)?, more));
    let (valid, more) = beside(work).await?;
    held.join(more);
    Ok(valid)
}

/// The request, validated in the order in which Triton checks.
fn validated(
    state: &ServerState,
    spec: &ModelSpec,
    request: ModelInferRequest,
    held: &mut Held,
) -> Result<(Vec<Wanted>, ValidRequest, RequestOptions)> {
    let request_options = request_options(&request.parameters)?;
    unique(request.inputs.iter().map(|input| &*input.name))
        .map_err(|input| Error::DuplicateInput { input: input.to_owned() })?;
    unique(request.outputs.iter().map(|output| &*output.name))
        .map_err(|output| Error::DuplicateOutput { output: output.to_owned() })?;
    let regions = &state.regions;
    let given = given(spec, regions, request.inputs, request.raw_input_contents)?;
    let outputs = wanted(spec, regions, request.outputs)?;
    hold_shared(&given, state.message_limit, held)?;
    let valid = validate(spec, given)?;
    hold(&valid, held)?;
    Ok((outputs, valid, request_options))
}

impl Pending {
    fn finish(self, result: Result<Prediction>, trace: &Trace, call: Call) -> Result<BytesMut> {
        let reply = result.and_then(|mut answer| {
            trace.ran(&answer);
            let spec = &self.served.model.spec;
            let places = self.outputs.iter().map(|wanted| wanted.index);
            keeps_rows(spec, &answer.outputs, places, answer.rows)?;
            encode(spec, &self.id, &mut answer.outputs, &self.outputs, call.reply_head)
        });
        reply.map_err(|error| error.of_request(self.id))
    }
}
