//! The trial of a device: whether a small network runs there at all.

use std::time::Duration;

use crate::engine::onnx::file::OnnxFile;
use crate::engine::onnx::session::{Options, Place, Plain};
use crate::engine::onnx::{buckets, graph};
use crate::engine::{Engine, EngineError, Source, watchdog};
use crate::model::device::{Device, GpuOptions};
use crate::tensor::{DType, Tensor, aligned};

/// The longest that the trial of a device takes: CUDA has much to load the first time.
const TRIAL: Duration = Duration::from_secs(300);

/// Runs a small network on a device: first in a plain session, then with an engine as models are
/// run there. The error has the words of ONNX Runtime, or of CUDA.
pub fn try_device(device: Device) -> Result<(), EngineError> {
    let until = watchdog::from_now(TRIAL);
    let opened = OnnxFile::of_content(&device.to_string(), graph::trial(), until)?;
    buckets::undisturbed(|| {
        let session = opened.file.session(Place { device, ..Place::default() }, until)?;
        try_engine(&mut Plain::new(session, &opened.inputs, Options::plain()?))
    })?;
    let mut engine = opened.engine(device, GpuOptions::default(), until)?;
    engine.prepare(2)?;
    try_engine(&mut *engine)
}

fn try_engine(engine: &mut dyn Engine) -> Result<(), EngineError> {
    for rows in [1, 2] {
        let data = aligned(bytemuck::cast_slice(&[1.0f32, -3.0].repeat(rows)));
        let input = Tensor { dtype: DType::Fp32, shape: vec![rows, 2], data };
        let came = engine.run(&[Some(input.view())])?;
        let expected: &[u8] = bytemuck::cast_slice(&[2.0f32, 0.0]);
        if came.len() != 1 || *came[0].data != *expected.repeat(rows) {
            let expected = format!("expected of {input:?} what is positive of its double");
            return Err(EngineError::Fault(format!("{expected}, got {came:?}")));
        }
    }
    Ok(())
}
