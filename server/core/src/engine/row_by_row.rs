//! A network whose batch axis is fixed at one row, run row by row for batches of more.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::engine::{Bounds, Engine, EngineError, Source};
use crate::model::device::{Device, GpuOptions};
use crate::model::{ModelSpec, TensorSpec};
use crate::tensor::{Rows, Tensor, TensorView, aligned};

/// A network with a free batch axis in place of one that is fixed at one row.
#[derive(Debug)]
pub struct RowByRow {
    network: Box<dyn Source>,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
}

impl RowByRow {
    /// Whether a model is served with more rows than its network's fixed batch axis has.
    pub fn is_needed(spec: &ModelSpec, network: &dyn Source) -> bool {
        let is_one = |tensor: &TensorSpec| tensor.dims.first() == Some(&1);
        spec.max_batch_size > 0 && network.inputs().iter().any(is_one)
    }

    /// The network with a free batch axis.
    pub fn new(network: Box<dyn Source>) -> Self {
        let freed = |tensors: &[TensorSpec]| {
            let mut tensors = tensors.to_vec();
            tensors.iter_mut().filter_map(|it| it.dims.first_mut()).for_each(|size| *size = -1);
            tensors
        };
        let (inputs, outputs) = (freed(network.inputs()), freed(network.outputs()));
        Self { network, inputs, outputs }
    }
}

impl Source for RowByRow {
    fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    fn is_open(&self) -> bool {
        self.network.is_open()
    }

    fn engine(
        &self,
        device: Device,
        gpu: GpuOptions,
        until: Instant,
    ) -> Result<Box<dyn Engine>, EngineError> {
        let engine = self.network.engine(device, gpu, until)?;
        Ok(Box::new(OneRow { engine, bounds: Bounds::default() }))
    }
}

/// An engine of a network that takes one row.
#[derive(Debug)]
struct OneRow {
    engine: Box<dyn Engine>,
    bounds: Bounds,
}

impl Engine for OneRow {
    fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
        let rows = inputs.iter().flatten().find_map(|input| input.shape.first()).copied();
        // The bounds hold for all rows together, but for the memory, which each row gives back.
        let mut bounds = Bounds { until: Some(self.bounds.end()), ..self.bounds };
        let limit = bounds.outputs;
        let whole: Vec<_> = inputs.iter().map(|input| input.as_ref().map(owned)).collect();
        let mut left: Vec<_> = whole.iter().map(|input| input.as_ref().map(Rows::of)).collect();
        let mut answers: Vec<Vec<Tensor>> = Vec::new();
        for _ in 0..rows.unwrap_or(1) {
            self.engine.bound(bounds);
            // A row's bytes may begin where no element of their type may lie.
            let row: Vec<_> = left
                .iter_mut()
                .map(|rows| rows.as_mut().map(|rows| realigned(rows.next(1))))
                .collect();
            let views: Vec<_> = row.iter().map(|it| it.as_ref().map(Tensor::view)).collect();
            let outputs = self.engine.run(&views).map_err(|error| match error {
                EngineError::TooLarge { found, limit: rest } => {
                    EngineError::TooLarge { found: found + limit - rest, limit }
                }
                error => error,
            })?;
            bounds.outputs -=
                outputs.iter().map(|it| it.data.len()).sum::<usize>().min(bounds.outputs);
            answers.push(outputs);
        }
        joined(answers)
    }

    fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    fn prepare(&mut self, _: usize) -> Result<(), EngineError> {
        // The network has no batch axis of its own.
        self.engine.prepare(0)
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.engine.check()
    }

    fn graphs(&self) -> String {
        self.engine.graphs()
    }

    fn now(&self) -> Instant {
        self.engine.now()
    }
}

fn owned(view: &TensorView<'_>) -> Tensor {
    let data = Bytes::copy_from_slice(view.data);
    Tensor { dtype: view.dtype, shape: view.shape.to_vec(), data }
}

fn realigned(tensor: Tensor) -> Tensor {
    match tensor.view().is_aligned() {
        true => tensor,
        false => Tensor { data: aligned(&tensor.data), ..tensor },
    }
}

/// The outputs of all rows as those of one batch.
fn joined(answers: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, EngineError> {
    let rows = answers.len();
    let Some(first) = answers.first() else { return Ok(Vec::new()) };
    let join = |output: usize| {
        let Tensor { dtype, shape, .. } = &first[output];
        let mut data = BytesMut::new();
        for (row, outputs) in answers.iter().enumerate() {
            if outputs[output].shape != *shape || shape.first() != Some(&1) {
                return Err(EngineError::Fault(format!(
                    "expected one row of the same shape for every row of the request, got \
                     {shape:?} and, for row {row}, {:?}",
                    outputs[output].shape
                )));
            }
            data.extend_from_slice(&outputs[output].data);
        }
        let shape = [&[rows], &shape[1..]].concat();
        Ok(Tensor { dtype: *dtype, shape, data: data.freeze() })
    };
    (0..first.len()).map(join).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    /// A network that answers one row [1, 2] with itself.
    #[derive(Debug)]
    struct Echo([TensorSpec; 1]);

    impl Source for Echo {
        fn inputs(&self) -> &[TensorSpec] {
            &self.0
        }

        fn outputs(&self) -> &[TensorSpec] {
            &self.0
        }

        fn engine(
            &self,
            _: Device,
            _: GpuOptions,
            _: Instant,
        ) -> Result<Box<dyn Engine>, EngineError> {
            Ok(Box::new(EchoEngine(Bounds::default())))
        }
    }

    #[derive(Debug)]
    struct EchoEngine(Bounds);

    impl Engine for EchoEngine {
        fn run(&mut self, inputs: &[Option<TensorView<'_>>]) -> Result<Vec<Tensor>, EngineError> {
            let view = inputs[0].expect("it is not optional");
            assert!(view.shape == [1, 2] && view.is_aligned());
            match (view.data.len(), self.0.outputs) {
                (found, limit) if found > limit => Err(EngineError::TooLarge { found, limit }),
                _ => Ok(vec![owned(&view)]),
            }
        }

        fn bound(&mut self, bounds: Bounds) {
            self.0 = bounds;
        }
    }

    fn run(rows: usize, outputs: usize) -> Result<Vec<Tensor>, EngineError> {
        let echo = Echo([TensorSpec::new("x", DType::Fp32, &[1, 2])]);
        let source = RowByRow::new(Box::new(echo));
        assert_eq!(source.inputs()[0].dims, [-1, 2]);
        let engine = source.engine(Device::Cpu, GpuOptions::default(), Instant::now());
        let mut engine = engine.expect("an engine");
        engine.bound(Bounds { outputs, ..Bounds::default() });
        let values: Vec<f32> = (0..2 * rows).map(|value| value as f32).collect();
        let data = bytemuck::cast_slice(&values);
        engine.run(&[Some(TensorView { dtype: DType::Fp32, shape: &[rows, 2], data })])
    }

    #[test]
    fn each_row_is_run_and_answered_in_its_place() {
        let outputs = run(5, usize::MAX).expect("it runs");
        assert_eq!(outputs[0].shape, [5, 2]);
        let values: Vec<f32> = (0..10).map(|value| value as f32).collect();
        assert_eq!(&*outputs[0].data, bytemuck::cast_slice::<f32, u8>(&values));
    }

    #[test]
    fn the_bytes_of_all_rows_are_bounded_together() {
        run(3, 24).expect("24 bytes fit");
        assert_eq!(run(3, 20), Err(EngineError::TooLarge { found: 24, limit: 20 }));
    }
}
