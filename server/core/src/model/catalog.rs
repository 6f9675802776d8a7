//! Which models there are and where each stands: the truth that everything but the hot path asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::model::{Model, ModelSpec};

/// Where a version of a model stands.
#[derive(Clone, Debug)]
pub enum State {
    /// The version is read, warmed up and checked.
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
    /// Why the version does not serve; nothing where it does.
    pub fn reason(&self) -> &str {
        match self {
            Self::Ready(_) => "",
            Self::Loading => "it is being loaded",
            Self::Lost(_, reason) | Self::Unavailable(reason) => reason,
            Self::Unloaded => "it has been unloaded",
        }
    }

    /// Whether it is of this very model.
    fn is_of(&self, model: &Arc<Model>) -> bool {
        match self {
            Self::Ready(own) | Self::Lost(own, _) => Arc::ptr_eq(own, model),
            _ => false,
        }
    }
}

/// All models, and the server's own state.
#[derive(Clone, Debug)]
pub struct Snapshot {
    models: BTreeMap<String, BTreeMap<u64, State>>,
    /// Every model of the start has been loaded or has failed.
    loaded: bool,
    draining: bool,
    /// A shard does not turn.
    stuck: bool,
    /// Ready means every model is; otherwise any.
    strict: bool,
}

/// The snapshot, shared: whoever watches it hears of every change.
#[derive(Debug)]
pub struct Catalog(watch::Sender<Snapshot>);

impl Catalog {
    /// An empty one.
    pub fn new(strict: bool) -> Self {
        let (models, loaded, draining, stuck) = (BTreeMap::new(), false, false, false);
        let snapshot = Snapshot { models, loaded, draining, stuck, strict };
        Self(watch::Sender::new(snapshot))
    }

    /// The snapshot as it is now. Do not hold the guard over anything slow.
    pub fn read(&self) -> watch::Ref<'_, Snapshot> {
        self.0.borrow()
    }

    /// Follow the changes.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.0.subscribe()
    }

    /// Why a model that a shard does not serve cannot be asked.
    pub fn why_not(&self, name: &str, version: &str) -> Error {
        match self.read().find(name, version) {
            Err(error) => error,
            // The model has become ready this very moment.
            Ok(model) => Error::NotReady {
                model: name.to_owned(),
                version: model.spec.version,
                reason: State::Loading.reason().into(),
            },
        }
    }

    /// Write down that a version is being loaded, or could not be, unless it serves already: what
    /// serves goes on until it is replaced.
    pub fn set_unless_ready(&self, name: &str, version: u64, state: State) {
        let is_loaded = matches!(
            self.read().versions(name).and_then(|versions| versions.get(&version)),
            Some(State::Ready(_) | State::Lost(..))
        );
        if !is_loaded {
            self.set(name, version, state);
        }
    }

    /// Write down where a version stands.
    pub fn set(&self, name: &str, version: u64, state: State) {
        self.0.send_modify(|snapshot| {
            snapshot.models.entry(name.to_owned()).or_default().insert(version, state);
        });
    }

    /// Strike out a version that has never served, and its model where that has no other.
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

    /// Write down that a model that was loaded has no engine left, for this reason, or has one again.
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

    /// The start is over.
    pub fn finish_loading(&self) {
        self.0.send_modify(|snapshot| snapshot.loaded = true);
    }

    /// Whether a shard does not turn.
    pub fn set_stuck(&self, stuck: bool) {
        self.0.send_if_modified(|snapshot| std::mem::replace(&mut snapshot.stuck, stuck) != stuck);
    }

    /// The end has begun.
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

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Every model with its versions, by name.
    pub fn models(&self) -> impl Iterator<Item = (&str, &BTreeMap<u64, State>)> {
        self.models.iter().map(|(name, versions)| (name.as_str(), versions))
    }

    /// The versions of a model.
    pub fn versions(&self, name: &str) -> Option<&BTreeMap<u64, State>> {
        self.models.get(name)
    }

    /// Whether the newest version of a model serves; nothing where there is no such model.
    pub fn model_is_ready(&self, name: &str) -> Option<bool> {
        self.models.get(name).map(|versions| !self.draining && newest_ready(versions).is_some())
    }

    /// A model that is ready, or why it is not. An empty version is the newest ready one.
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
                reason: state.reason().to_owned(),
            }),
        }
    }
}

/// The newest version that serves.
pub fn newest_ready(versions: &BTreeMap<u64, State>) -> Option<&Arc<Model>> {
    versions.values().rev().find_map(|state| match state {
        State::Ready(model) => Some(model),
        _ => None,
    })
}

/// A request's version: nothing for the newest.
pub fn parse_version(text: &str) -> Result<Option<u64>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(version) if version > 0 => Ok(Some(version)),
        _ => Err(Error::BadVersion { found: text.to_owned() }),
    }
}
