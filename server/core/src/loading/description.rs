//! The description of a model beyond its graph, and how the two are put together.

use std::path::PathBuf;

use crate::engine::Source;
use crate::engine::onnx::file::OnnxFile;
use crate::engine::row_by_row::RowByRow;
use crate::loading::error::LoadError;
use crate::loading::golden::Sample;
use crate::model::{ModelSpec, TensorSpec};

/// The description of an input or output beyond its graph.
#[derive(Clone, Debug)]
pub struct DescribedTensor {
    /// The name in the graph.
    pub name: String,
    /// The sizes of the axes, the batch axis included where there is one; -1: any size.
    pub dims: Vec<i64>,
    /// Whether the number of axes is open; `dims` is empty then.
    pub any_rank: bool,
    /// The encoding of text in an input of bytes; may be empty.
    pub encoding: String,
    /// The meaning of the tensor, for people.
    pub meaning: String,
    /// The names of the classes, by index.
    pub labels: Vec<String>,
    /// Whether a request may leave the input out.
    pub optional: bool,
}

/// The description of a model beyond its graph.
#[derive(Clone, Debug)]
pub struct Description {
    /// The specification without its inputs and outputs.
    pub spec: ModelSpec,
    /// The descriptions of the graph's inputs; optional inputs that are not served are left out.
    pub inputs: Vec<DescribedTensor>,
    /// The descriptions of all of the graph's outputs.
    pub outputs: Vec<DescribedTensor>,
    /// The folders of the golden samples, one each.
    pub golden: Vec<PathBuf>,
}

/// A model that can be loaded: a network, how it is served, and what it must answer.
#[derive(Debug)]
pub struct Described {
    /// The network.
    pub source: Box<dyn Source>,
    /// The specification of how the network is served.
    pub spec: ModelSpec,
    /// The golden samples that the network must answer.
    pub samples: Vec<Sample>,
}

impl Description {
    /// Puts the description together with the file's graph, in the graph's order, and reads the
    /// golden samples.
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
        let source: Box<dyn Source> = match RowByRow::is_needed(&spec, &file) {
            true => Box::new(RowByRow::new(Box::new(file))),
            false => Box::new(file),
        };
        Ok(Described { source, spec, samples })
    }
}

/// The described tensors with the types of the graph. Names that differ from the graph's, or stand
/// in another order, are an error.
fn completed(
    described: Vec<DescribedTensor>,
    graph: &[TensorSpec],
) -> Result<Vec<TensorSpec>, LoadError> {
    let of_graph = |tensor: DescribedTensor| {
        let DescribedTensor { name, dims, any_rank, encoding, meaning, labels, optional } = tensor;
        let dtype = graph.iter().find(|declared| declared.name == name)?.dtype;
        Some(TensorSpec { name, dtype, dims, any_rank, encoding, meaning, labels, optional })
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
