//! The placement of a model: each set of engines that it may be given is tried, and the best is
//! taken.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::thread::{EngineThread, outcome};
use crate::loading::error::LoadError;
use crate::loading::factory::EngineFactory;
use crate::model::device::Device;
use crate::model::{Placement, Report, Timed};
use crate::proto::inference::ModelInstanceGroup;
use crate::proto::inference::model_instance_group::Kind;

/// A set of engines that has been tried.
#[derive(Debug)]
pub struct Tried {
    /// The device of each engine; only the first engine has been made.
    pub devices: Vec<Device>,
    /// The warm-up's report of the first engine.
    pub report: Report,
    /// The thread of the first engine.
    pub first: EngineThread,
}

/// Tries every alternative of a model, and takes the one that answers the most rows a second; the
/// first of equals. The error says why none of them works. A trial that is not done at `until` is
/// given up.
pub fn choose(
    factory: &Arc<EngineFactory>,
    shards: usize,
    until: Instant,
) -> Result<Tried, LoadError> {
    let alternatives = &factory.spec.placements;
    let mut best: Option<Tried> = None;
    let mut timed = Vec::new();
    let mut failures = Vec::new();
    for alternative in alternatives {
        let devices = devices(alternative, shards);
        let names = names(&devices);
        match try_first(factory, devices, until) {
            Ok(tried) => {
                timed.push(tried.timed());
                let speed = |tried: &Tried| tried.timed().rows_per_second;
                if best.as_ref().is_none_or(|best| speed(best) < speed(&tried)) {
                    best = Some(tried);
                }
            }
            Err(error) if alternatives.len() == 1 => return Err(error),
            Err(error) => failures.push((names, error)),
        }
    }
    let Some(mut best) = best else {
        return Err(LoadError::Nowhere(failures));
    };
    best.report.device = names(&best.devices);
    best.report.device_reason = reason(&factory.spec.device_reason, &timed, &failures);
    if alternatives.len() > 1 {
        best.report.alternatives = timed;
    }
    Ok(best)
}

/// Makes the first engine of a set, on a thread of its own.
fn try_first(
    factory: &Arc<EngineFactory>,
    devices: Vec<Device>,
    until: Instant,
) -> Result<Tried, LoadError> {
    let device = *devices.first().ok_or(LoadError::NoPlacement)?;
    let first = start(factory, 0)?;
    let factory = factory.clone();
    let report = first.run(move |slot| {
        let (engine, report) = factory.first(device, until)?;
        *slot = Some(engine);
        Ok::<_, LoadError>(report)
    });
    match outcome(&report, until).map_err(LoadError::from).flatten() {
        Ok(report) => Ok(Tried { devices, report, first }),
        Err(error) => {
            first.abandon();
            Err(error)
        }
    }
}

fn start(factory: &EngineFactory, number: usize) -> Result<EngineThread, LoadError> {
    Ok(EngineThread::start(format!("worker-{}-{number}", factory.spec.name))?)
}

impl Tried {
    /// The devices and threads of all engines of the set. All but the first engine are made here,
    /// at the same time.
    pub fn complete(
        self,
        factory: &Arc<EngineFactory>,
        until: Instant,
    ) -> Result<Vec<(Device, EngineThread)>, LoadError> {
        let mut threads = vec![(self.devices[0], self.first)];
        let mut pending = Vec::new();
        for (number, &device) in self.devices.iter().enumerate().skip(1) {
            let thread = start(factory, number)?;
            let (factory, report) = (factory.clone(), self.report.clone());
            pending.push(thread.run(move |slot| {
                *slot = Some(factory.more(device, &report, until)?);
                Ok::<_, LoadError>(())
            }));
            threads.push((device, thread));
        }
        let made = pending
            .iter()
            .try_for_each(|made| outcome(made, until).map_err(LoadError::from).flatten());
        if made.is_err() {
            threads.drain(..).for_each(|(_, thread)| thread.abandon());
        }
        made.map(|()| threads)
    }

    fn timed(&self) -> Timed {
        let timings = &self.report.microseconds_per_batch;
        let speed = timings.last().map_or(0.0, |&(rows, time)| rows as f64 / time * 1e6);
        Timed {
            device: names(&self.devices),
            microseconds_per_row: timings.first().map_or(0.0, |&(_, time)| time),
            rows_per_second: speed * self.devices.len() as f64,
        }
    }
}

/// The device of each engine of a set. A count of 0 means one engine a shard on the CPU, and one
/// engine on a GPU.
fn devices(placements: &[Placement], shards: usize) -> Vec<Device> {
    let each = placements.iter().flat_map(|&Placement { device, count }| {
        let count = match (count, device) {
            (0, Device::Cpu) => shards,
            (0, Device::Cuda(_)) => 1,
            (count, _) => count,
        };
        vec![device; count]
    });
    each.collect()
}

/// The names of a set's devices, each once, such as `cuda:0, cuda:1`.
fn names(devices: &[Device]) -> String {
    distinct(devices).map(Device::to_string).collect::<Vec<_>>().join(", ")
}

/// The devices without repeats, in the order in which they first come.
fn distinct(devices: &[Device]) -> impl Iterator<Item = &Device> {
    let places = devices.iter().enumerate();
    places.filter(|&(at, device)| !devices[..at].contains(device)).map(|(_, device)| device)
}

/// The reason for a model's devices: the stated one, then the result of each alternative where
/// there was a choice.
fn reason(stated: &str, timed: &[Timed], failures: &[(String, LoadError)]) -> String {
    let mut text = stated.to_owned();
    if timed.len() + failures.len() < 2 {
        return text;
    }
    let mut add = |part: std::fmt::Arguments<'_>| {
        let _ = write!(text, "{}{part}", if text.is_empty() { "" } else { "; " });
    };
    timed.iter().for_each(|timed| {
        add(format_args!("{} gives {:.0} rows/s", timed.device, timed.rows_per_second));
    });
    failures.iter().for_each(|(place, error)| add(format_args!("not {place}: {error}")));
    text
}

/// The engines of a model as instance groups of Triton's configuration.
pub fn instance_groups(name: &str, devices: &[Device]) -> Vec<ModelInstanceGroup> {
    let mut groups: Vec<ModelInstanceGroup> = Vec::new();
    for &device in distinct(devices) {
        let count = devices.iter().filter(|each| **each == device).count() as i32;
        let (kind, gpu) = match device {
            Device::Cpu => (Kind::Cpu, None),
            Device::Cuda(number) => (Kind::Gpu, Some(number as i32)),
        };
        match groups.last_mut() {
            // The count of a group is the engines on each of its GPUs.
            Some(last) if last.kind == kind as i32 && last.count == count => last.gpus.extend(gpu),
            _ => groups.push(ModelInstanceGroup {
                name: format!("{name}_{}", groups.len()),
                kind: kind as i32,
                count,
                gpus: gpu.into_iter().collect(),
                ..Default::default()
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_in_one_group_however_often_it_was_named() {
        let (cpu, first, second) = (Device::Cpu, Device::Cuda(0), Device::Cuda(1));
        let told = |devices: &[Device]| -> Vec<_> {
            let groups = instance_groups("it", devices);
            groups.into_iter().map(|group| (group.kind(), group.count, group.gpus)).collect()
        };
        assert_eq!(told(&[first, cpu, first]), [(Kind::Gpu, 2, vec![0]), (Kind::Cpu, 1, vec![])]);
        assert_eq!(told(&[first, second, first, second]), [(Kind::Gpu, 2, vec![0, 1])]);
        assert_eq!(names(&[first, cpu, first]), "cuda:0, cpu");
    }
}
