//! The calls about the model repositories.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::catalog::{Snapshot, State};
use crate::model::control::{Action, ModelControl};
use crate::proto::inference::model_repository_parameter::ParameterChoice;
use crate::proto::inference::repository_index_response::ModelIndex;
use crate::proto::inference::{
    ModelRepositoryParameter, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelLoadRequest, RepositoryModelUnloadRequest,
};
use crate::service::inference::parameters::bad;
use crate::state::ServerState;

/// Answers RepositoryIndex: every version that was ever to be served, and by name alone every other
/// model in the repositories. Where the request asks for ready models, only versions that serve.
pub async fn index(
    state: &ServerState,
    request: RepositoryIndexRequest,
) -> Result<RepositoryIndexResponse> {
    only_repository(&request.repository_name)?;
    let names = match &state.model_control {
        Some(control) if !request.ready => control.give(String::new(), Action::Index).await?,
        _ => Vec::new(),
    };
    let snapshot = state.catalog.read();
    let mut models = versions(&snapshot, request.ready);
    let unknown = names.into_iter().filter(|name| snapshot.versions(name).is_none());
    models.extend(unknown.map(|name| ModelIndex { name, ..Default::default() }));
    Ok(RepositoryIndexResponse { models })
}

fn versions(snapshot: &Snapshot, only_ready: bool) -> Vec<ModelIndex> {
    let models = snapshot.models().flat_map(|(name, versions)| {
        versions.iter().map(move |(version, state)| {
            let (state, reason) = match state {
                State::Ready(_) => ("READY", state.reason()),
                // The reasons are Triton's own words, or empty where it gives none.
                State::Loading => ("LOADING", "".into()),
                State::Unloaded => ("UNAVAILABLE", "unloaded".into()),
                State::Unavailable(_) | State::Lost(..) => ("UNAVAILABLE", state.reason()),
            };
            ModelIndex {
                name: name.to_owned(),
                version: version.to_string(),
                state: state.to_owned(),
                reason: reason.into_owned(),
            }
        })
    });
    models.filter(|model| !only_ready || model.state == "READY").collect()
}

/// Loads a model, or loads it again. Returns when the model serves.
pub async fn load(state: &ServerState, request: RepositoryModelLoadRequest) -> Result<()> {
    let RepositoryModelLoadRequest { repository_name, model_name, parameters } = request;
    let control = model_control(state, &repository_name, &model_name)?;
    let (config, files) = replacements(parameters)?;
    if !files.is_empty() && !control.allow_upload {
        return Err(Error::Unimplemented {
            detail: "model files in requests are not allowed. Start the server with '--allow-model-upload' to enable.".into(),
        });
    }
    if !files.is_empty() && config.is_none() {
        return Err(bad("expected the parameter 'config' beside files, got none".into()));
    }
    control.give(model_name, Action::Load { config, files }).await.map(drop)
}

/// Unloads a model, if there is one. Requests that were accepted are still answered.
pub async fn unload(state: &ServerState, request: RepositoryModelUnloadRequest) -> Result<()> {
    let RepositoryModelUnloadRequest { repository_name, model_name, parameters } = request;
    let control = model_control(state, &repository_name, &model_name)?;
    for (key, value) in &parameters {
        match (key.as_str(), &value.parameter_choice) {
            // No model here depends on another.
            ("unload_dependents", Some(ParameterChoice::BoolParam(_))) => {}
            ("unload_dependents", _) => {
                return Err(bad(format!("invalid value type for '{key}', expected bool_param")));
            }
            _ => return Err(unrecognized(key)),
        }
    }
    control.give(model_name, Action::Unload).await.map(drop)
}

/// The configuration, if there is one, and the files by path that replace the repository's.
fn replacements(
    parameters: BTreeMap<String, ModelRepositoryParameter>,
) -> Result<(Option<String>, BTreeMap<String, bytes::Bytes>)> {
    let mut config = None;
    let mut files = BTreeMap::new();
    for (key, value) in parameters {
        match (key.strip_prefix("file:"), value.parameter_choice) {
            (Some(path), Some(ParameterChoice::BytesParam(bytes))) => {
                files.insert(path.to_owned(), bytes);
            }
            (Some(_), _) => {
                return Err(bad(format!("invalid value type for '{key}', expected bytes_param")));
            }
            (None, Some(ParameterChoice::StringParam(text))) if key == "config" => {
                config = Some(text);
            }
            (None, _) if key == "config" => {
                return Err(bad("invalid value type for 'config', expected string_param".into()));
            }
            (None, _) => return Err(unrecognized(&key)),
        }
    }
    Ok((config, files))
}

fn unrecognized(key: &str) -> Error {
    bad(format!("unrecognized load parameter '{key}'"))
}

/// The control of models, which takes orders; an error where clients may give none, or none for a
/// model of this name.
fn model_control<'a>(
    state: &'a ServerState,
    repository: &str,
    model: &str,
) -> Result<&'a ModelControl> {
    only_repository(repository)?;
    let control = state.model_control.as_ref().ok_or(Error::ControlDisabled)?;
    let field = |detail: &str| Err(Error::BadField { field: "model_name", detail: detail.into() });
    if model.trim().is_empty() {
        return field("Model name cannot be empty. Please enter a valid name to deploy.");
    }
    if model.contains('/') || model.contains("..") {
        return field("model name must not contain path traversal characters");
    }
    Ok(control)
}

fn only_repository(name: &str) -> Result<()> {
    match name {
        "" => Ok(()),
        _ => Err(Error::Unimplemented {
            detail: "'repository_name' specification is not supported".into(),
        }),
    }
}
