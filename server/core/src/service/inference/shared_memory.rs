//! The calls about shared memory, and the parameters of tensors that lie there.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::proto::inference::infer_parameter::ParameterChoice;
use crate::proto::inference::system_shared_memory_status_response::RegionStatus;
use crate::proto::inference::{
    InferParameter, ModelInferRequest, SystemSharedMemoryRegisterRequest,
    SystemSharedMemoryStatusResponse,
};
use crate::service::inference::parameters::{bad, wrong_type};
use crate::shared_memory::{Regions, Slice};

/// The longest name of a region, in bytes. There is a limit because the server keeps the name.
const NAME: usize = 255;

const REGION: &str = "shared_memory_region";
const OFFSET: &str = "shared_memory_offset";
const BYTE_SIZE: &str = "shared_memory_byte_size";

/// The part of a region that a tensor's parameters name; none where they name no region.
pub fn slice(
    regions: &Regions,
    parameters: &BTreeMap<String, InferParameter>,
) -> Result<Option<Slice>> {
    // Most tensors have no parameters at all.
    if parameters.is_empty() {
        return Ok(None);
    }
    let offset = number(parameters, OFFSET)?;
    let size = number(parameters, BYTE_SIZE)?;
    let Some(region) = parameters.get(REGION) else {
        let stray = offset.map(|_| OFFSET).or(size.map(|_| BYTE_SIZE));
        return match stray {
            None => Ok(None),
            Some(key) => Err(bad(format!("'{key}' can not be specified without '{REGION}'"))),
        };
    };
    let Some(ParameterChoice::StringParam(region)) = &region.parameter_choice else {
        return Err(wrong_type(REGION, "string_param", region.parameter_choice.as_ref()));
    };
    let size = size.ok_or_else(|| {
        bad(format!("'{BYTE_SIZE}' must be specified along with '{REGION}', got no such parameter"))
    })?;
    regions.slice(region, offset.unwrap_or(0), size).map(Some)
}

/// Whether an input or an output of a request is in shared memory.
pub fn names_region(request: &ModelInferRequest) -> bool {
    let inputs = request.inputs.iter().map(|input| &input.parameters);
    let mut all = inputs.chain(request.outputs.iter().map(|output| &output.parameters));
    all.any(|parameters| parameters.contains_key(REGION))
}

/// The bytes that a tensor has in shared memory, as its parameters say; 0 where they do not.
pub fn size(parameters: &BTreeMap<String, InferParameter>) -> usize {
    let size = number(parameters, BYTE_SIZE).ok().flatten().unwrap_or(0);
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn number(parameters: &BTreeMap<String, InferParameter>, key: &str) -> Result<Option<u64>> {
    match parameters.get(key).map(|parameter| parameter.parameter_choice.as_ref()) {
        None => Ok(None),
        Some(Some(ParameterChoice::Int64Param(found))) => match u64::try_from(*found) {
            Ok(number) => Ok(Some(number)),
            Err(_) => {
                Err(bad(format!("invalid value for '{key}', expected value >= 0, got {found}")))
            }
        },
        Some(other) => Err(wrong_type(key, "int64_param", other)),
    }
}

/// Answers SystemSharedMemoryRegister.
pub fn register(regions: &Regions, request: &SystemSharedMemoryRegisterRequest) -> Result<()> {
    let SystemSharedMemoryRegisterRequest { name, key, offset, byte_size } = request;
    if name.is_empty() {
        let detail = "expected a name for the shared memory region, got none".to_owned();
        return Err(Error::BadField { field: "name", detail });
    }
    if name.len() > NAME {
        let detail = format!("expected at most {NAME} bytes, got {}", name.len());
        return Err(Error::BadField { field: "name", detail });
    }
    regions.register(name, key, *offset, *byte_size)
}

/// Answers SystemSharedMemoryStatus.
pub fn status(regions: &Regions, name: &str) -> Result<SystemSharedMemoryStatusResponse> {
    let regions = regions.status(name)?.into_iter().map(|(name, region)| {
        let (key, offset, byte_size) = (region.key.clone(), region.offset, region.size);
        (name.clone(), RegionStatus { name, key, offset, byte_size })
    });
    Ok(SystemSharedMemoryStatusResponse { regions: regions.collect() })
}
