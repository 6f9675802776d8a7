//! Where an ONNX model's weights are: inside it, or in files beside it.

use prost::Message;

/// Whether every tensor of the model is inside it.
pub fn are_inside(model: &[u8]) -> Result<bool, String> {
    let model = Model::decode(model).map_err(|error| error.to_string())?;
    let functions = model.functions.iter();
    Ok(model.graph.iter().all(Graph::is_inside)
        && functions.flat_map(|function| &function.nodes).all(Node::is_inside)
        && model.functions.iter().flat_map(|function| &function.defaults).all(Attribute::is_inside))
}

// The part of onnx.proto that leads to tensors.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "11")]
    defaults: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializers: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensor>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensor {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    /// 1: external.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {}

impl Graph {
    fn is_inside(&self) -> bool {
        self.nodes.iter().all(Node::is_inside)
            && self.initializers.iter().all(Tensor::is_inside)
            && self.sparse_initializers.iter().all(SparseTensor::is_inside)
    }
}

impl Node {
    fn is_inside(&self) -> bool {
        self.attributes.iter().all(Attribute::is_inside)
    }
}

impl Attribute {
    fn is_inside(&self) -> bool {
        self.tensor.iter().chain(&self.tensors).all(Tensor::is_inside)
            && self.graph.iter().chain(&self.graphs).all(Graph::is_inside)
            && self.sparse_tensor.iter().chain(&self.sparse_tensors).all(SparseTensor::is_inside)
    }
}

impl SparseTensor {
    fn is_inside(&self) -> bool {
        self.values.iter().chain(&self.indices).all(Tensor::is_inside)
    }
}

impl Tensor {
    fn is_inside(&self) -> bool {
        self.data_location == 0 && self.external_data.is_empty()
    }
}
