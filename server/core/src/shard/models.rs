//! The models that one shard serves.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use crate::error::Result;
use crate::metrics::model::ModelMetrics;
use crate::model::catalog::parse_version;
use crate::scheduler::served_model::ServedModel;
use crate::shard::handle::{Install, Remove};
use crate::state::ServerState;

/// The models that one shard serves, by name and version.
#[derive(Debug)]
pub struct Models {
    served: RefCell<HashMap<String, BTreeMap<u64, Rc<ServedModel>>>>,
    /// The counters of requests whose model was not found.
    pub unknown: Arc<ModelMetrics>,
    state: Arc<ServerState>,
}

impl Models {
    /// A table with no model yet.
    pub fn new(state: Arc<ServerState>) -> Self {
        let unknown = state.metrics.writer("", 0);
        Self { served: RefCell::default(), unknown, state }
    }

    /// Serves a model from now on, in the place of an earlier one of the same version.
    pub fn install(&self, Install { model, backend, queue_limits, done }: Install) {
        let metrics = self.state.metrics.writer(&model.spec.name, model.spec.version);
        let served = ServedModel::new(model.clone(), backend, queue_limits, metrics);
        let mut models = self.served.borrow_mut();
        let versions = models.entry(model.spec.name.clone()).or_default();
        versions.insert(model.spec.version, Rc::new(served));
        drop(done);
    }

    /// Stops serving a version of a model. Requests that were accepted hold the model until they
    /// are answered.
    pub fn remove(&self, Remove { name, version, done }: Remove) {
        let mut models = self.served.borrow_mut();
        if let Some(versions) = models.get_mut(&name) {
            versions.remove(&version);
        }
        models.retain(|_, versions| !versions.is_empty());
        drop(done);
    }

    /// The model that a request names; the error says why it cannot be asked. An empty version
    /// stands for the newest one that is served.
    pub fn find(&self, name: &str, version: &str) -> Result<Rc<ServedModel>> {
        let served = self.served.borrow().get(name).and_then(|versions| {
            match parse_version(version).ok()? {
                Some(version) => versions.get(&version).cloned(),
                None => versions.values().next_back().cloned(),
            }
        });
        served.ok_or_else(|| self.state.catalog.why_not(name, version))
    }
}
