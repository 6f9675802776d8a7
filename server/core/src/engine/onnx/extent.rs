//! The extent of a run: whether the sizes of its inputs bound what it takes, or nothing does.

use std::collections::HashSet;

use prost::Message;

/// Operators whose outputs are as large as the values of some inputs say, with these inputs'
/// places.
const SIZED: [(&str, &[usize]); 16] = [
    ("AffineGrid", &[1]),
    ("BlackmanWindow", &[0]),
    ("CenterCropPad", &[1]),
    ("Col2Im", &[1, 2]),
    ("ConstantOfShape", &[0]),
    ("Expand", &[1]),
    ("HammingWindow", &[0]),
    ("HannWindow", &[0]),
    ("MaxUnpool", &[2]),
    ("MelWeightMatrix", &[0, 1]),
    ("OneHot", &[1]),
    ("Pad", &[1]),
    ("Range", &[0, 1, 2]),
    ("Resize", &[2, 3]),
    ("Tile", &[1, 2]),
    ("Upsample", &[1]),
];

/// Whether a run may take as long as the values of its inputs say: the graph has loops, or tensors
/// whose sizes are computed from these values. Sizes computed from sizes are as good as sizes.
pub(super) fn is_open(model: &[u8]) -> bool {
    // A model that is nested too deeply to be read here is no small network.
    let Ok(model) = Model::decode(model) else { return true };
    // The arguments of a function are not known, so each may be a value of an input.
    let in_function = |function: &Function| {
        let mut values = function.inputs.iter().map(String::as_str).collect();
        is_open_by(&function.nodes, &mut values)
    };
    let in_graph = |graph: &Graph| {
        let constants: HashSet<_> = graph.initializers.iter().map(|it| &*it.name).collect();
        let inputs = graph.inputs.iter().map(|input| &*input.name);
        let mut values = inputs.filter(|name| !constants.contains(name)).collect();
        is_open_by(&graph.nodes, &mut values)
    };
    model.functions.iter().any(in_function) || model.graph.iter().any(in_graph)
}

/// Whether operators, in their order, make a run as long as the values of inputs say. `values` are
/// the names of tensors that are computed from these values.
fn is_open_by<'a>(nodes: &'a [Node], values: &mut HashSet<&'a str>) -> bool {
    nodes.iter().any(|node| {
        let graphs = node.attributes.iter().flat_map(|it| it.graph.iter().chain(&it.graphs));
        let mut graphs = graphs.peekable();
        // If runs one of its graphs once; other operators, such as Loop and Scan, run theirs over
        // and over.
        let loops = node.operator != "If" && graphs.peek().is_some();
        let sized = SIZED.iter().filter(|(operator, _)| node.operator == *operator);
        let grows = sized
            .flat_map(|(_, inputs)| *inputs)
            .any(|&input| node.inputs.get(input).is_some_and(|name| values.contains(&**name)));
        let within = graphs.any(|graph| is_open_by(&graph.nodes, values));
        let is_size = matches!(&*node.operator, "Shape" | "Size");
        // The graphs of an If may compute their outputs from any tensor around it.
        let is_value = node.operator == "If"
            || (!is_size && node.inputs.iter().any(|name| values.contains(&**name)));
        if is_value {
            values.extend(node.outputs.iter().map(String::as_str));
        }
        loops || grows || within
    })
}

// The messages below are the part of onnx.proto that leads to operators.

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(string, repeated, tag = "4")]
    inputs: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<Initializer>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Input>,
}

#[derive(Clone, PartialEq, Message)]
struct Initializer {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    outputs: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::super::graph::{FP32, Graph, INT64, Node, Value, Weights};
    use super::*;

    fn graph(nodes: Vec<Node>) -> Vec<u8> {
        let initializers = vec![Weights::integers("three", &[3])];
        let inputs = vec![Value::new("x", FP32, &[-1, 2]), Value::new("n", INT64, &[1])];
        let outputs = vec![Value::new("y", FP32, &[-1])];
        Graph { nodes, initializers, inputs, outputs, ..Default::default() }.file()
    }

    #[test]
    fn sizes_by_values_are_open_and_sizes_by_sizes_are_not() {
        let node = Node::new;
        assert!(!is_open(&graph(vec![node("Relu", &["x"], "y")])));
        assert!(!is_open(&graph(vec![node("Expand", &["x", "three"], "y")])));
        assert!(is_open(&graph(vec![node("Expand", &["x", "n"], "y")])));
        let by = |operator| {
            vec![node(operator, &["n"], "a"), node("Mul", &["a", "three"], "b")]
                .into_iter()
                .chain([node("ConstantOfShape", &["b"], "y")])
                .collect()
        };
        assert!(!is_open(&graph(by("Shape"))));
        assert!(is_open(&graph(by("Abs"))));
    }
}
