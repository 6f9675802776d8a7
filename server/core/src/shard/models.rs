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
    /// Counts requests that name no model there is.
    pub unknown: Arc<ModelMetrics>,
    state: Arc<ServerState>,
}

impl Models {
    /// No model yet.
    pub fn new(state: Arc<ServerState>) -> Self {
        let unknown = state.metrics.writer("", 0);
        Self { served: RefCell::default(), unknown, state }
    }

    /// Serves a model from now on, in the place of the same version.
    pub fn install(&self, Install { model, runs, queue_limits, done }: Install) {
        let metrics = self.state.metrics.writer(&model.spec.name, model.spec.version);
        let served = ServedModel::new(model.clone(), runs, queue_limits, metrics);
        let mut models = self.served.borrow_mut();
        let versions = models.entry(model.spec.name.clone()).or_default();
        versions.insert(model.spec.version, Rc::new(served));
        drop(done);
    }

    /// Serves a model no more. Requests that were accepted hold it until they are answered.
    pub fn remove(&self, Remove { name, version, done }: Remove) {
        let mut models = self.served.borrow_mut();
        if let Some(versions) = models.get_mut(&name) {
            versions.remove(&version);
        }
        models.retain(|_, versions| !versions.is_empty());
        drop(done);
    }

    /// The model that a request names, or why it cannot be asked. Without a version it is the newest.
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
