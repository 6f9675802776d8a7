//! Whether a graph has loops.

use prost::Message;

/// Whether a run may take as long as its inputs say: an operator runs a graph of its own, over and over,
/// as Loop and Scan do. If runs one of its own once.
pub(super) fn loops(model: &[u8]) -> bool {
    // What is nested too deeply to be read here is no small network.
    let Ok(model) = Model::decode(model) else { return true };
    let functions = model.functions.iter().flat_map(|function| &function.nodes);
    model.graph.iter().flat_map(|graph| &graph.nodes).chain(functions).any(Node::loops)
}

// The part of onnx.proto that leads to operators.

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
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "4")]
    operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

impl Node {
    fn loops(&self) -> bool {
        let graphs = || self.attributes.iter().flat_map(|it| it.graph.iter().chain(&it.graphs));
        let is_loop = self.operator != "If" && graphs().next().is_some();
        is_loop || graphs().flat_map(|graph| &graph.nodes).any(Self::loops)
    }
}
