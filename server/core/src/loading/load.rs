//! From a network to a model that is ready to serve.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::thread::EngineThread;
use crate::loading::error::LoadError;
use crate::loading::factory::Maker;
use crate::loading::placement;
use crate::model::Model;
use crate::model::device::Device;

/// A model that has been tried, warmed up and checked, and its engines, each on its own thread.
#[derive(Debug)]
pub struct Loaded {
    /// The model, and what warming it up has shown.
    pub model: Arc<Model>,
    /// Where another engine comes from.
    pub maker: Arc<Maker>,
    /// The engines; as many as there are shards, on CPUs, where the model is light.
    pub engines: Vec<(Device, EngineThread)>,
}

/// Tries a model where it may run, and makes all of its engines. What is not done at this time is
/// given up.
pub fn load(maker: Maker, shards: usize, until: Instant) -> Result<Loaded, LoadError> {
    let maker = Arc::new(maker);
    let mut chosen = placement::choose(&maker, shards, until)?;
    // A light model runs in the shards' loops, where each of them can have an engine.
    chosen.report.heavy |= chosen.devices != vec![Device::Cpu; shards];
    // Nothing that a request says keeps a loop from turning.
    chosen.report.heavy |= maker.source.is_open();
    let mut spec = maker.spec.clone();
    spec.config.instance_group = placement::instance_groups(&spec.name, &chosen.devices);
    let model = Arc::new(Model { spec, report: chosen.report.clone() });
    let engines = chosen.complete(&maker, until)?;
    Ok(Loaded { model, maker, engines })
}
