//! The catalog of all models and their states, which everything but the hot path asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::model::{Model, ModelSpec};

/// The state of one version of a model.
#[derive(Clone, Debug)]
pub enum State {
    /// The version is being read, warmed up and checked.
    Loading,
    /// The version serves.
    Ready(Arc<Model>),
    /// The version does not serve until it gets an engine again, for this reason.
    Lost(Arc<Model>, String),
    /// The version does not serve, for this reason.
    Unavailable(String),
    /// The version was unloaded by order.
    Unloaded,
}

impl State {
    /// The reason why the version does not serve. Of a version that serves: why none of the rows
    /// tried in loading ran; empty where some did.
    pub fn reason(&self) -> Cow<'_, str> {
        match self {
            Self::Ready(model) if model.report.refusal.is_empty() => "".into(),
            Self::Ready(model) => format!("not tried: {}", model.report.refusal).into(),
            Self::Loading => "it is being loaded".into(),
            Self::Lost(_, reason) | Self::Unavailable(reason) => reason.into(),
            Self::Unloaded => "it has been unloaded".into(),
        }
    }

    /// Whether the state is of this very model, and not of one that it replaced or that replaced
    /// it.
    fn is_of(&self, model: &Arc<Model>) -> bool {
        match self {
            Self::Ready(own) | Self::Lost(own, _) => Arc::ptr_eq(own, model),
            _ => false,
        }
    }
}

/// A snapshot of all models and of the server's own state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    models: BTreeMap<String, BTreeMap<u64, State>>,
    /// Whether every model of the start has been loaded or has failed.
    loaded: bool,
    /// Whether the server's end has begun.
    draining: bool,
    /// Whether a shard does not turn.
    stuck: bool,
    /// Whether the server is ready only when every model is; otherwise one model is enough.
    strict: bool,
}

/// The shared snapshot. Its watchers are told of every change.
#[derive(Debug)]
pub struct Catalog(watch::Sender<Snapshot>);

impl Catalog {
    /// A catalog of no models; `strict` says that the server is ready only when every model is.
    pub fn new(strict: bool) -> Self {
        let (models, loaded, draining, stuck) = (BTreeMap::new(), false, false, false);
        let snapshot = Snapshot { models, loaded, draining, stuck, strict };
        Self(watch::Sender::new(snapshot))
    }

    /// The snapshot as it is now. The guard must not be held over anything slow.
    pub fn read(&self) -> watch::Ref<'_, Snapshot> {
        self.0.borrow()
    }

    /// A receiver that is told of every change.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    /// The error for a model that a shard does not serve.
    pub fn why_not(&self, name: &str, version: &str) -> Error {
        match self.read().find(name, version) {
            Err(error) => error,
            // The model has become ready since the shard looked, and counts as still being loaded.
            Ok(model) => Error::NotReady {
                model: name.to_owned(),
                version: model.spec.version,
                reason: State::Loading.reason().into(),
                lasts: false,
            },
        }
    }

    /// Sets a version's state, being loaded or failed, unless the version serves already: it then
    /// serves until it is replaced.
    pub fn set_unless_ready(&self, name: &str, version: u64, state: State) {
        let is_loaded = matches!(
            self.read().versions(name).and_then(|versions| versions.get(&version)),
            Some(State::Ready(_) | State::Lost(..))
        );
        if !is_loaded {
            self.set(name, version, state);
        }
    }

    /// Sets a version's state.
    pub fn set(&self, name: &str, version: u64, state: State) {
        self.0.send_modify(|snapshot| {
            snapshot.models.entry(name.to_owned()).or_default().insert(version, state);
        });
    }

    /// Removes a version that does not serve, and its model where that has no other version.
    pub fn forget(&self, name: &str, version: u64) {
        self.0.send_if_modified(|snapshot| {
            let Some(versions) = snapshot.models.get_mut(name) else { return false };
            if matches!(versions.get(&version), Some(State::Ready(_) | State::Lost(..))) {
                return false;
            }
            let known = versions.remove(&version).is_some();
            if versions.is_empty() {
                snapshot.models.remove(name);
            }
            known
        });
    }

    /// Notes that a loaded model has no engine left, for this reason; none: that it has one again.
    /// Nothing changes where the model has been unloaded or replaced.
    pub fn set_lost(&self, model: &Arc<Model>, reason: Option<&str>) {
        let ModelSpec { name, version, .. } = &model.spec;
        self.0.send_if_modified(|snapshot| {
            let versions = snapshot.models.get_mut(name);
            match versions.and_then(|versions| versions.get_mut(version)) {
                Some(state) if state.is_of(model) => {
                    *state = match reason {
                        Some(reason) => State::Lost(model.clone(), reason.to_owned()),
                        None => State::Ready(model.clone()),
                    };
                    true
                }
                _ => false,
            }
        });
    }

    /// Notes that every model of the start has been loaded or has failed.
    pub fn finish_loading(&self) {
        self.0.send_modify(|snapshot| snapshot.loaded = true);
    }

    /// Notes whether a shard does not turn.
    pub fn set_stuck(&self, stuck: bool) {
        self.0.send_if_modified(|snapshot| std::mem::replace(&mut snapshot.stuck, stuck) != stuck);
    }

    /// Notes that the server's end has begun.
    pub fn drain(&self) {
        self.0.send_modify(|snapshot| snapshot.draining = true);
    }
}

impl Snapshot {
    /// Whether the server as a whole is ready.
    pub fn is_ready(&self) -> bool {
        let wanted = self
            .models
            .values()
            .filter(|versions| !versions.values().all(|state| matches!(state, State::Unloaded)));
        let mut newest = wanted.map(|versions| newest_ready(versions).is_some());
        let models =
            if self.strict { newest.all(|ready| ready) } else { newest.any(|ready| ready) };
        self.loaded && !self.draining && !self.stuck && models
    }

    /// Whether the server's end has begun.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The models with their versions, by name.
    pub fn models(&self) -> impl Iterator<Item = (&str, &BTreeMap<u64, State>)> {
        self.models.iter().map(|(name, versions)| (name.as_str(), versions))
    }

    /// The versions of a model with their states; none where there is no such model.
    pub fn versions(&self, name: &str) -> Option<&BTreeMap<u64, State>> {
        self.models.get(name)
    }

    /// Whether any version of a model serves, and the server's end has not begun; none where there
    /// is no such model.
    pub fn model_is_ready(&self, name: &str) -> Option<bool> {
        self.models.get(name).map(|versions| !self.draining && newest_ready(versions).is_some())
    }

    /// A model that is ready; the error says why it is not. An empty version means the newest ready
    /// one.
    pub fn find(&self, name: &str, version: &str) -> Result<&Arc<Model>> {
        let wanted = parse_version(version)?;
        let versions =
            self.models.get(name).ok_or_else(|| Error::UnknownModel { model: name.to_owned() })?;
        let (version, state) = match wanted {
            Some(version) => versions
                .get_key_value(&version)
                .ok_or_else(|| Error::UnknownVersion { model: name.to_owned(), version })?,
            None => match newest_ready(versions) {
                Some(model) => return Ok(model),
                None => versions
                    .iter()
                    .rfind(|(_, state)| !matches!(state, State::Unloaded))
                    .ok_or_else(|| Error::NoVersions { model: name.to_owned() })?,
            },
        };
        match state {
            State::Ready(model) => Ok(model),
            state => Err(Error::NotReady {
                model: name.to_owned(),
                version: *version,
                reason: state.reason().into_owned(),
                lasts: matches!(state, State::Unavailable(_) | State::Unloaded),
            }),
        }
    }
}

/// The model of the newest version that serves; none where no version serves.
pub fn newest_ready(versions: &BTreeMap<u64, State>) -> Option<&Arc<Model>> {
    versions.values().rev().find_map(|state| match state {
        State::Ready(model) => Some(model),
        _ => None,
    })
}

/// The version that a request's text names; none: the newest.
pub fn parse_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(version) if version > 0 => Ok(Some(version)),
        _ => Err(Error::BadVersion { found: text.to_owned() }),
    }
}
