//! The loading of a network up to a model that is ready to serve.

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
    /// The model: its specification, and its warm-up's report.
    pub model: Arc<Model>,
    /// The factory that makes another engine where one is lost.
    pub factory: Arc<EngineFactory>,
    /// The devices and threads of the engines; a light model has one on the CPU for each shard.
    pub engines: Vec<(Device, EngineThread)>,
}

/// Tries a model on the devices where it may run, and makes all of its engines. A load that is not
/// done at `until` is given up.
pub fn load(factory: EngineFactory, shards: usize, until: Instant) -> Result<Loaded, LoadError> {
    let factory = Arc::new(factory);
    let mut chosen = placement::choose(&factory, shards, until)?;
    // A light model runs in the shards' loops, which takes one engine on the CPU for each shard.
    // With any other set of engines the model counts as heavy.
    chosen.report.heavy |= chosen.devices != vec![Device::Cpu; shards];
    // A model whose runs take as long as a request's values say is heavy, for no request may keep a
    // shard's loop from turning.
    chosen.report.heavy |= factory.source.is_open();
    let mut spec = factory.spec.clone();
    spec.config.instance_group = placement::instance_groups(&spec.name, &chosen.devices);
    let model = Arc::new(Model { spec, report: chosen.report.clone() });
    let engines = chosen.complete(&factory, until)?;
    Ok(Loaded { model, factory, engines })
}
