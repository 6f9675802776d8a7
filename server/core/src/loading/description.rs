//! What is said of a model beyond its graph, put together with what the graph says.

use std::path::PathBuf;

use crate::engine::Source;
use crate::engine::onnx::file::OnnxFile;
use crate::loading::error::LoadError;
use crate::loading::golden::Sample;
use crate::model::{ModelSpec, TensorSpec};

/// What is said of an input or output beyond its graph.
#[derive(Clone, Debug)]
pub struct DescribedTensor {
    /// The name in the graph.
    pub name: String,
    /// The sizes, the batch axis included where there is one; -1: any.
    pub dims: Vec<i64>,
    /// What it means, for people.
    pub meaning: String,
    /// The names of its classes.
    pub labels: Vec<String>,
    /// A request may leave it out.
    pub optional: bool,
}

/// What is said of a model beyond its graph.
#[derive(Clone, Debug)]
pub struct Description {
    /// All but its inputs and outputs.
    pub spec: ModelSpec,
    /// All of the graph's inputs, but for optional ones that are not served.
    pub inputs: Vec<DescribedTensor>,
    /// All of the graph's outputs.
    pub outputs: Vec<DescribedTensor>,
    /// The folders of its golden samples.
    pub golden: Vec<PathBuf>,
}

/// A model that can be loaded: a network, how it is served, and what it must answer.
#[derive(Debug)]
pub struct Described {
    /// The network.
    pub source: Box<dyn Source>,
    /// How it is served.
    pub spec: ModelSpec,
    /// What it must answer.
    pub samples: Vec<Sample>,
}

impl Description {
    /// Puts it together with what the file says, in the graph's order; reads the golden samples.
    pub fn complete(self, mut file: OnnxFile) -> Result<Described, LoadError> {
        let Self { spec, inputs, outputs, golden } = self;
        file.keep_optional(|name| inputs.iter().any(|input| input.name == name));
        let samples = golden
            .iter()
            .map(|folder| Sample::read(folder, file.inputs(), file.outputs()))
            .collect::<Result<_, _>>()?;
        let spec = ModelSpec {
            inputs: completed(inputs, file.inputs())?,
            outputs: completed(outputs, file.outputs())?,
            ..spec
        };
        Ok(Described { source: Box::new(file), spec, samples })
    }
}

/// The tensors with the types that the graph has.
fn completed(
    described: Vec<DescribedTensor>,
    graph: &[TensorSpec],
) -> Result<Vec<TensorSpec>, LoadError> {
    let of_graph = |tensor: DescribedTensor| {
        let DescribedTensor { name, dims, meaning, labels, optional } = tensor;
        let declared = graph.iter().find(|declared| declared.name == name)?;
        Some(TensorSpec { name, dtype: declared.dtype, dims, meaning, labels, optional })
    };
    let tensors: Vec<_> = described.into_iter().filter_map(of_graph).collect();
    match tensors.iter().map(|tensor| &tensor.name).eq(graph.iter().map(|tensor| &tensor.name)) {
        true => Ok(tensors),
        false => {
            let expected = graph.iter().map(|tensor| tensor.name.clone()).collect();
            Err(LoadError::NotDescribed { expected })
        }
    }
}
