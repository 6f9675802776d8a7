//! From a network to a model that is ready to serve.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::thread::EngineThread;
use crate::loading::error::LoadError;
use crate::loading::factory::EngineFactory;
use crate::loading::placement;
use crate::model::Model;
use crate::model::device::Device;

/// A model that has been tried, warmed up and checked, and its engines, each on its own thread.
#[derive(Debug)]
pub struct Loaded {
    /// The model, and what warming it up has shown.
    pub model: Arc<Model>,
    /// Where another engine comes from.
    pub factory: Arc<EngineFactory>,
    /// The engines; as many as there are shards, on CPUs, where the model is light.
    pub engines: Vec<(Device, EngineThread)>,
}

/// Tries a model where it may run, and makes all of its engines. What is not done at this time is
/// given up.
pub fn load(factory: EngineFactory, shards: usize, until: Instant) -> Result<Loaded, LoadError> {
    let factory = Arc::new(factory);
    let mut chosen = placement::choose(&factory, shards, until)?;
    // A light model runs in the shards' loops, where each of them can have an engine.
    chosen.report.heavy |= chosen.devices != vec![Device::Cpu; shards];
    // The values of a request never keep a loop from turning.
    chosen.report.heavy |= factory.source.is_open();
    let mut spec = factory.spec.clone();
    spec.config.instance_group = placement::instance_groups(&spec.name, &chosen.devices);
    let model = Arc::new(Model { spec, report: chosen.report.clone() });
    let engines = chosen.complete(&factory, until)?;
    Ok(Loaded { model, factory, engines })
}
