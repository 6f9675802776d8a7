//! The factory of a model's engines: each has given the right answers before it serves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::engine::thread::Unfinished;
use crate::engine::{Bounds, Engine, Source};
use crate::loading::error::LoadError;
use crate::loading::golden::{self, Sample};
use crate::loading::warmup;
use crate::model::device::{Device, GpuOptions};
use crate::model::{ModelSpec, Report};
use crate::panics::panic_text;

/// The factory that makes the engines of one version of a model.
#[derive(Debug)]
pub struct EngineFactory {
    /// The network.
    pub source: Box<dyn Source>,
    /// The specification of how the network is served.
    pub spec: ModelSpec,
    /// The golden samples that every engine must answer.
    pub samples: Vec<Sample>,
    /// The options of engines on a GPU.
    pub gpu: GpuOptions,
}

impl EngineFactory {
    /// The first engine on a device, and its warm-up's report. The engine is run by this thread
    /// from now on. An engine that is not ready at `until` is given up.
    ///
    /// A GPU that runs none of the rows tried, while the CPU does, lacks something, such as cuDNN:
    /// this is an error.
    pub fn first(
        &self,
        device: Device,
        until: Instant,
    ) -> Result<(Box<dyn Engine>, Report), LoadError> {
        let slack = golden::slack(device, self.gpu);
        let warm_up =
            |engine: &mut dyn Engine| warmup::warm_up(engine, &self.spec, &self.samples, slack);
        let (engine, report) = self.make(device, until, warm_up)?;
        let is_refused = device != Device::Cpu && !report.refusal.is_empty();
        report.warnings.iter().for_each(|warning| {
            let ModelSpec { name, version, .. } = &self.spec;
            tracing::warn!(model = %name, version, %device, warning);
        });
        if is_refused && self.first(Device::Cpu, until).is_ok_and(|(_, it)| it.refusal.is_empty()) {
            return Err(LoadError::Unfit { device, refusal: report.refusal });
        }
        Ok((engine, report))
    }

    /// Another engine of a model that has been warmed up. The engine is run by this thread from now
    /// on.
    pub fn more(
        &self,
        device: Device,
        report: &Report,
        until: Instant,
    ) -> Result<Box<dyn Engine>, LoadError> {
        let prepare =
            |engine: &mut dyn Engine| warmup::prepare(engine, &self.spec, report.rows_independent);
        let (engine, ()) = self.make(device, until, prepare)?;
        let graphs = engine.graphs();
        if graphs != report.graphs && device != Device::Cpu {
            let ModelSpec { name, version, .. } = &self.spec;
            tracing::warn!(model = %name, version, %device, graphs, "CUDA graphs are not as at first");
        }
        Ok(engine)
    }

    fn make<T>(
        &self,
        device: Device,
        until: Instant,
        look: impl FnOnce(&mut dyn Engine) -> Result<T, LoadError>,
    ) -> Result<(Box<dyn Engine>, T), LoadError> {
        let make = || {
            let mut engine = self.source.engine(device, self.gpu, until)?;
            let limits = &self.spec.limits;
            let (time, memory) = (limits.run_time, limits.run_memory);
            engine.bound(Bounds { until: Some(until), time, memory, ..Default::default() });
            let seen = look(&mut *engine)?;
            let slack = golden::slack(device, self.gpu);
            golden::check(&mut *engine, &self.spec, &self.samples, slack)?;
            Ok((engine, seen))
        };
        let made = catch_unwind(AssertUnwindSafe(make));
        match made.unwrap_or_else(|panic| Err(LoadError::Panic(panic_text(&*panic)))) {
            // The time limit is the reason, whatever the error says.
            Err(_) if until <= Instant::now() => Err(Unfinished::Late.into()),
            made => made,
        }
    }
}
