//! The inputs and outputs of a graph for which it has no shape.
//!
//! ONNX Runtime tells such a tensor as it tells a scalar: without axes.

use std::collections::HashSet;

use prost::Message;

/// The names of the inputs and outputs whose number of axes the graph leaves open.
pub(super) fn open(model: &[u8]) -> HashSet<String> {
    let graph = Model::decode(model).ok().and_then(|model| model.graph).unwrap_or_default();
    let open = |value: &Value| {
        let tensor = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        tensor.is_none_or(|tensor| tensor.shape.is_none())
    };
    let values = graph.inputs.into_iter().chain(graph.outputs);
    values.filter(open).map(|value| value.name).collect()
}

// The messages below are the part of onnx.proto that leads to shapes.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorKind {
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {}
