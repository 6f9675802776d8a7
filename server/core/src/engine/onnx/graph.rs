//! Small ONNX graphs that are written here, for the trial of a device and for tests.

use prost::Message;

/// A model. This and the messages below are the part of onnx.proto that small graphs need.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    operator_sets: Vec<OperatorSet>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<Weights>,
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
    #[prost(string, tag = "4")]
    operator: String,
}

/// A tensor of weights, which are floats or whole numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Weights {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    floats: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    integers: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Value {
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
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dims: Vec<Dim>,
}

#[derive(Clone, PartialEq, Message)]
struct Dim {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

// These are the numbers of `onnx.TensorProto.DataType`.
pub(super) const FP32: i32 = 1;
#[cfg(test)]
pub(super) const INT64: i32 = 7;
#[cfg(test)]
pub(super) const STRING: i32 = 8;

impl Graph {
    /// The bytes of an ONNX file with this graph.
    pub fn file(self) -> Vec<u8> {
        let graph = Some(Self { name: "small".into(), ..self });
        Model { ir_version: 9, graph, operator_sets: vec![OperatorSet { version: 17 }] }
            .encode_to_vec()
    }
}

impl Node {
    pub fn new(operator: &str, inputs: &[&str], output: &str) -> Self {
        Self {
            inputs: inputs.iter().map(|&name| name.into()).collect(),
            outputs: vec![output.into()],
            operator: operator.into(),
        }
    }
}

impl Weights {
    pub fn new(name: &str, dims: &[i64], floats: Vec<f32>) -> Self {
        let (name, dims) = (name.into(), dims.to_vec());
        Self { dims, data_type: FP32, floats, integers: Vec::new(), name }
    }

    /// A list of whole numbers.
    #[cfg(test)]
    pub fn integers(name: &str, integers: &[i64]) -> Self {
        let (name, dims) = (name.into(), vec![integers.len() as i64]);
        Self { dims, data_type: INT64, floats: Vec::new(), integers: integers.to_vec(), name }
    }
}

impl Value {
    /// A tensor; a size of -1 is open.
    pub fn new(name: &str, element: i32, dims: &[i64]) -> Self {
        let dim = |&size: &i64| match size {
            -1 => Dim { size: None, name: Some("batch".into()) },
            size => Dim { size: Some(size), name: None },
        };
        let shape = Some(Shape { dims: dims.iter().map(dim).collect() });
        let tensor = Some(TensorKind { element, shape });
        Self { name: name.into(), kind: Some(Kind { tensor }) }
    }
}

/// The graph of a device's trial, `y = relu(x * w)` with x of [-1, 2] and w of 2 twos on its
/// diagonal. It needs a library for linear algebra, and one of ONNX Runtime's own kernels.
pub(super) fn trial() -> Vec<u8> {
    let nodes = vec![Node::new("MatMul", &["x", "w"], "z"), Node::new("Relu", &["z"], "y")];
    Graph {
        nodes,
        initializers: vec![Weights::new("w", &[2, 2], vec![2.0, 0.0, 0.0, 2.0])],
        inputs: vec![Value::new("x", FP32, &[-1, 2])],
        outputs: vec![Value::new("y", FP32, &[-1, 2])],
        ..Default::default()
    }
    .file()
}
