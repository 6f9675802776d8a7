"""Small model files, each for one special case, built without PyTorch."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data
from onnx.helper import make_node

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
DTYPES = tuple(dtype for dtype in ELEMENTS if dtype != "BYTES")

Build = Callable[[], onnx.ModelProto]

# Random weights of small networks, always the same.
CHANCE = np.random.default_rng(0)
LINEAR_WEIGHT = np.array([[-0.4499, 0.4996, 0.1127], [-0.0365, -0.1955, 0.04227]], np.float32)
LINEAR_BIAS = np.array([0.0310, 0.15327], np.float32)
LAYERS = [
    (CHANCE.normal(size=(wide, deep)).astype(np.float32), np.zeros(deep, np.float32))
    for wide, deep in ((10, 18), (18, 20), (20, 5))
]
TABLE = CHANCE.normal(size=(10, 3)).astype(np.float32)


def tensor(name: str, dtype: str, *shape: str | int) -> ValueInfoProto:
    """Make an input or output of a graph; a size with a name is variable."""
    return helper.make_tensor_value_info(name, ELEMENTS[dtype], list(shape))


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Mapping[str, np.ndarray] | None = None,
    **stated: Any,
) -> onnx.ModelProto:
    """Make a model. Keyword arguments become its metadata: `task="binary"` is sigmax.task."""
    constants = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    made = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 2)],
        ir_version=9,
    )
    if stated:
        stated["format"] = "1"
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in stated.items()}
    helper.set_model_props(model, {f"sigmax.{key}": text for key, text in texts.items()})
    return model


def identity(dtype: str) -> onnx.ModelProto:
    """Return the input, of any shape with three axes."""
    node = make_node("Identity", ["x"], ["y"])
    shape = ("batch", "height", "width")
    return graph([node], [tensor("x", dtype, *shape)], [tensor("y", dtype, *shape)])


def simple() -> onnx.ModelProto:
    """Return the sum and the difference of two inputs, as Triton's example of this name does."""
    nodes = [
        make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    inputs = [tensor(name, "INT32", "batch", 16) for name in ("INPUT0", "INPUT1")]
    outputs = [tensor(name, "INT32", "batch", 16) for name in ("OUTPUT0", "OUTPUT1")]
    return graph(nodes, inputs, outputs)


def scalar() -> onnx.ModelProto:
    """Return twice a number without any axis."""
    node = make_node("Add", ["x", "x"], ["y"])
    return graph([node], [tensor("x", "FP32")], [tensor("y", "FP32")])


def any_length() -> onnx.ModelProto:
    """Return the input, which has two rows of any length and no batch axis."""
    node = make_node("Identity", ["x"], ["y"])
    shape = (2, "length")
    return graph([node], [tensor("x", "FP32", *shape)], [tensor("y", "FP32", *shape)])


def classes_of(dtype: str) -> onnx.ModelProto:
    """Return a softmax over three numbers of the given dtype."""
    nodes = [
        make_node("Cast", ["x"], ["scores"], to=TensorProto.FLOAT),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
    ]
    labels = ["a", "b", "c"]
    return graph(
        nodes,
        [tensor("x", dtype, "batch", 3)],
        [tensor("p", "FP32", "batch", 3)],
        task="multiclass",
        labels=labels,
    )


def fish_or_fowl() -> onnx.ModelProto:
    """Return the probability that a text is "fish"."""
    nodes = [
        make_node(
            "LabelEncoder",
            ["x"],
            ["p"],
            domain="ai.onnx.ml",
            keys_strings=["fish"],
            values_floats=[1.0],
            default_float=0.0,
        ),
    ]
    return graph(
        nodes,
        [tensor("x", "BYTES", "batch", 1)],
        [tensor("p", "FP32", "batch", 1)],
        task="binary",
        labels=["fowl", "fish"],
    )


def sigmoid() -> onnx.ModelProto:
    """Map one logit to one probability."""
    return graph(
        [make_node("Sigmoid", ["x"], ["p"])],
        [tensor("x", "FP32", "batch", 1)],
        [tensor("p", "FP32", "batch", 1)],
        task="binary",
        labels=["no", "yes"],
        thresholds=[0.5],
    )


def softmax() -> onnx.ModelProto:
    """Map five scores to five probabilities."""
    return graph(
        [make_node("Softmax", ["x"], ["p"], axis=-1)],
        [tensor("x", "FP32", "batch", 5)],
        [tensor("p", "FP32", "batch", 5)],
        task="multiclass",
        labels=list("abcde"),
    )


def multilabel() -> onnx.ModelProto:
    """Map three logits to three independent probabilities."""
    labels, thresholds = ["fur", "wings", "scales"], [0.25, 0.5, 0.75]
    return graph(
        [make_node("Sigmoid", ["x"], ["p"])],
        [tensor("x", "FP32", "batch", 3)],
        [tensor("p", "FP32", "batch", 3)],
        task="multilabel",
        labels=labels,
        thresholds=thresholds,
    )


def linear() -> onnx.ModelProto:
    """Map three numbers to two by W x + b, without a task."""
    return graph(
        [make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)],
        [tensor("x", "FP32", "batch", 3)],
        [tensor("y", "FP32", "batch", 2)],
        {"weight": LINEAR_WEIGHT, "bias": LINEAR_BIAS},
    )


def layers() -> onnx.ModelProto:
    """Map ten numbers to five probabilities by linear layers 10-18-20-5 and a softmax."""
    nodes: list[NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    last = "x"
    for number, (weight, bias) in enumerate(LAYERS):
        weights |= {f"w{number}": weight, f"b{number}": bias}
        nodes += [make_node("Gemm", [last, f"w{number}", f"b{number}"], [f"z{number}"])]
        nodes += [make_node("Relu", [f"z{number}"], [f"a{number}"])]
        last = f"a{number}"
    nodes[-1] = make_node("Softmax", ["z2"], ["p"], axis=-1)
    labels = list("abcde")
    shapes = [tensor("x", "FP32", "batch", 10)], [tensor("p", "FP32", "batch", 5)]
    return graph(nodes, *shapes, weights, task="multiclass", labels=labels)


def embedding() -> onnx.ModelProto:
    """Map four indices below 10 to the softmax of the mean of their vectors."""
    nodes = [
        make_node("Gather", ["table", "x"], ["vectors"]),
        make_node("ReduceMean", ["vectors", "axis"], ["scores"], keepdims=0),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
    ]
    return graph(
        nodes,
        [tensor("x", "INT64", "batch", 4)],
        [tensor("p", "FP32", "batch", 3)],
        {"table": TABLE, "axis": np.array([1])},
        task="multiclass",
        labels=["a", "b", "c"],
    )


def division() -> onnx.ModelProto:
    """Return the quotients of whole numbers."""
    inputs = [tensor("x", "INT32", "batch", 2), tensor("by", "INT32", "batch", 2)]
    return graph([make_node("Div", ["x", "by"], ["y"])], inputs, [tensor("y", "INT32", "batch", 2)])


def whole_division(operator: str, dtype: str) -> onnx.ModelProto:
    """Return the quotient or the remainder of a row's two numbers: `operator` is Div or Mod."""
    nodes = [
        make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        make_node(operator, ["a", "b"], ["y"]),
    ]
    return graph(nodes, [tensor("x", dtype, "batch", 2)], [tensor("y", dtype, "batch", 1)])


def whole_batch() -> onnx.ModelProto:
    """Return a softmax over the batch, so that every row depends on all others."""
    return graph(
        [make_node("Softmax", ["x"], ["p"], axis=0)],
        [tensor("x", "FP32", "batch", 3)],
        [tensor("p", "FP32", "batch", 3)],
        task="multilabel",
        labels=["a", "b", "c"],
    )


def unbatched() -> onnx.ModelProto:
    """Return a softmax over exactly three numbers, without a batch axis."""
    shapes = [tensor("x", "FP32", 3)], [tensor("p", "FP32", 3)]
    return graph(
        [make_node("Softmax", ["x"], ["p"], axis=-1)],
        *shapes,
        task="multiclass",
        labels=["a", "b", "c"],
    )


def pair() -> onnx.ModelProto:
    """Map two inputs of different dtypes to two outputs: a sum in FP32, and the flags negated."""
    nodes = [
        make_node("Cast", ["flags"], ["ones"], to=TensorProto.FLOAT),
        make_node("Add", ["x", "ones"], ["sum"]),
        make_node("Not", ["flags"], ["others"]),
    ]
    inputs = [tensor("x", "FP32", "batch", 3), tensor("flags", "BOOL", "batch", 3)]
    return graph(
        nodes, inputs, [tensor("sum", "FP32", "batch", 3), tensor("others", "BOOL", "batch", 3)]
    )


def root() -> onnx.ModelProto:
    """Return the sigmoid of a square root, which is NaN for a negative number."""
    return graph(
        [make_node("Sqrt", ["x"], ["z"]), make_node("Sigmoid", ["z"], ["p"])],
        [tensor("x", "FP32", "batch", 1)],
        [tensor("p", "FP32", "batch", 1)],
        task="binary",
        labels=["no", "yes"],
    )


def slow(turns: int = 60) -> onnx.ModelProto:
    """Return a sigmoid; with the default turns, a run takes about a tenth of a second."""
    side = 300
    mixing = np.random.default_rng(0).normal(0, side**-0.5, (side, side)).astype(np.float32)
    body = helper.make_graph(
        [
            make_node("Identity", ["go"], ["go_on"]),
            make_node("MatMul", ["mixed", "mixing"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("mixed", TensorProto.FLOAT, [side, side]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [side, side]),
        ],
    )
    # The loop starts from the input, so that ONNX Runtime cannot fold it into a constant.
    nodes = [
        make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        make_node("Expand", ["mean", "sides"], ["start"]),
        make_node("Loop", ["turns", "go", "start"], ["end"], body=body),
        make_node("ReduceMean", ["end"], ["middle"], keepdims=0),
        make_node("Mul", ["middle", "nothing"], ["zero"]),
        make_node("Add", ["x", "zero"], ["z"]),
        make_node("Sigmoid", ["z"], ["p"]),
    ]
    weights = {
        "mixing": mixing,
        "turns": np.array(turns),
        "go": np.array(True),
        "sides": np.array([side, side]),
        "nothing": np.array(0, np.float32),
    }
    shapes = [tensor("x", "FP32", "batch", 1)], [tensor("p", "FP32", "batch", 1)]
    return graph(nodes, *shapes, weights, task="binary", labels=["no", "yes"])


def looped() -> onnx.ModelProto:
    """Multiply a row by a matrix three times in a loop, and return a softmax."""
    row = [tensor("turned", "FP32", "batch", 10), tensor("next", "FP32", "batch", 10)]
    body = helper.make_graph(
        [
            make_node("Identity", ["go"], ["go_on"]),
            make_node("MatMul", ["turned", "turning"], ["product"]),
            make_node("Relu", ["product"], ["next"]),
        ],
        "body",
        [tensor("turn", "INT64"), tensor("go", "BOOL"), row[0]],
        [tensor("go_on", "BOOL"), row[1]],
    )
    nodes = [
        make_node("Loop", ["turns", "go", "x"], ["scores"], body=body),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
    ]
    turning = np.random.default_rng(0).normal(0, 0.3, (10, 10)).astype(np.float32)
    weights = {"turning": turning, "turns": np.array(3), "go": np.array(True)}
    shapes = [tensor("x", "FP32", "batch", 10)], [tensor("p", "FP32", "batch", 10)]
    return graph(nodes, *shapes, weights)


def wide(side: int) -> onnx.ModelProto:
    """Return a softmax over the product with a matrix of side x side floats."""
    weight = np.random.default_rng(0).normal(0, side**-0.5, (side, side)).astype(np.float32)
    nodes = [
        make_node("MatMul", ["x", "weight"], ["scores"]),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
    ]
    shapes = [tensor("x", "FP32", "batch", side)], [tensor("p", "FP32", "batch", side)]
    return graph(nodes, *shapes, {"weight": weight})


def convolution() -> onnx.ModelProto:
    """Return the largest sum of three neighbours in each of two channels of four numbers."""
    nodes = [
        make_node("Conv", ["x", "ones"], ["sums"], pads=[1, 1], group=2),
        make_node("ReduceMax", ["sums", "axis"], ["y"], keepdims=0),
    ]
    shapes = [tensor("x", "FP32", "batch", 2, 4)], [tensor("y", "FP32", "batch", 2)]
    return graph(nodes, *shapes, {"ones": np.ones((2, 1, 3), np.float32), "axis": np.array([2])})


def passed_on() -> onnx.ModelProto:
    """Return a row times a matrix, and the row itself as the other output."""
    weight = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    shape = ("batch", 4)
    outputs = [tensor("y", "FP32", *shape), tensor("x", "FP32", *shape)]
    nodes = [make_node("MatMul", ["x", "weight"], ["y"])]
    return graph(nodes, [tensor("x", "FP32", *shape)], outputs, {"weight": weight})


def weight_told() -> onnx.ModelProto:
    """Return three rows times a matrix, and the matrix as the other output; no batch axis."""
    weight = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    outputs = [tensor("y", "FP32", 3, 3), tensor("weight", "FP32", 3, 3)]
    nodes = [make_node("MatMul", ["x", "weight"], ["y"])]
    return graph(nodes, [tensor("x", "FP32", 3, 3)], outputs, {"weight": weight})


def unknown_operator() -> onnx.ModelProto:
    """Make a model with an operator that no runtime has."""
    shapes = [tensor("x", "FP32", "batch", 1)], [tensor("y", "FP32", "batch", 1)]
    return graph([make_node("Frobnicate", ["x"], ["y"])], *shapes)


def with_default() -> onnx.ModelProto:
    """Return x + bias, where the bias is 1 unless the request gives it."""
    shape = ("length",)
    inputs = [tensor("x", "FP32", *shape), tensor("bias", "FP32", 1)]
    one = {"bias": np.ones(1, np.float32)}
    node = make_node("Add", ["x", "bias"], ["y"])
    return graph([node], inputs, [tensor("y", "FP32", *shape)], one)


def turns() -> onnx.ModelProto:
    """Count the turns of a loop, as many as the input says; light where these are few."""
    return _loop(make_node("Identity", ["x"], ["turns"]))


def turns_for_ever() -> onnx.ModelProto:
    """Loop for ever, whatever the input."""
    return _loop(make_node("Constant", [], ["turns"], value_int=2**62))


def _loop(turns: NodeProto) -> onnx.ModelProto:
    """Make a model that counts the turns of a loop; the node `turns` gives their number.

    The input is one INT64.
    """
    body = helper.make_graph(
        [
            make_node("Identity", ["go"], ["go_on"]),
            make_node("Add", ["count", "one"], ["more"]),
        ],
        "body",
        [tensor("turn", "INT64"), tensor("go", "BOOL"), tensor("count", "INT64", 1)],
        [tensor("go_on", "BOOL"), tensor("more", "INT64", 1)],
        [numpy_helper.from_array(np.array([1]), "one")],
    )
    nodes = [
        turns,
        make_node("Sub", ["x", "x"], ["zero"]),
        make_node("Constant", [], ["true"], value=numpy_helper.from_array(np.array(True))),
        make_node("Loop", ["turns", "true", "zero"], ["y"], body=body),
    ]
    return graph(nodes, [tensor("x", "INT64", 1)], [tensor("y", "INT64", 1)])


def expands() -> onnx.ModelProto:
    """Return as many ones as the input says."""
    nodes = [
        make_node("Constant", [], ["one"], value_floats=[1.0]),
        make_node("Expand", ["one", "x"], ["y"]),
    ]
    return graph(nodes, [tensor("x", "INT64", 1)], [tensor("y", "FP32", "length")])


def sums() -> onnx.ModelProto:
    """Return the sum of as many ones as the input says, which a run allocates."""
    nodes = [
        make_node("Constant", [], ["one"], value_floats=[1.0]),
        make_node("Expand", ["one", "x"], ["ones"]),
        make_node("ReduceSum", ["ones"], ["y"], keepdims=1),
    ]
    return graph(nodes, [tensor("x", "INT64", 1)], [tensor("y", "FP32", 1)])


def powers() -> onnx.ModelProto:
    """Return the largest element of a high power of x times its transpose.

    A run is light where x is short, and takes minutes where x is long.
    """
    nodes = [
        make_node("Transpose", ["x"], ["across"]),
        make_node("MatMul", ["x", "across"], ["power0"]),
        *(make_node("MatMul", [f"power{n}", "power0"], [f"power{n + 1}"]) for n in range(40)),
        make_node("ReduceMax", ["power40"], ["most"], keepdims=0),
        make_node("Unsqueeze", ["most", "first"], ["y"]),
    ]
    weights = {"first": np.array([0])}
    return graph(nodes, [tensor("x", "FP32", "length", 2)], [tensor("y", "FP32", 1)], weights)


def folds_for_long() -> onnx.ModelProto:
    """Make a model with constants that take ONNX Runtime minutes to compute in loading."""
    side = np.array([6000, 6000])
    nodes = [make_node("ConstantOfShape", ["side"], ["power0"])]
    nodes += [make_node("MatMul", [f"power{n}", f"power{n}"], [f"power{n + 1}"]) for n in range(40)]
    nodes += [
        make_node("ReduceMax", ["power40"], ["most"], keepdims=0),
        make_node("Add", ["x", "most"], ["y"]),
    ]
    return graph(
        nodes, [tensor("x", "FP32", "batch", 3)], [tensor("y", "FP32", "batch", 3)], {"side": side}
    )


def zipped() -> onnx.ModelProto:
    """Return a softmax as one map from class to probability for each row, and the class."""
    nodes = [
        make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0),
        make_node("Softmax", ["x"], ["s"], axis=-1),
        make_node("ZipMap", ["s"], ["p"], domain="ai.onnx.ml", classlabels_strings=list("abc")),
    ]
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.STRING, element))
    outputs = [tensor("label", "INT64", "batch"), helper.make_value_info("p", maps)]
    return graph(nodes, [tensor("x", "FP32", "batch", 3)], outputs)


EXAMPLES: dict[str, Build] = {
    **{f"identity-{name.lower()}": partial(identity, name) for name in DTYPES},
    **{f"classes-{name.lower()}": partial(classes_of, name) for name in DTYPES},
    "fish-or-fowl": fish_or_fowl,
    "identity-bytes": partial(identity, "BYTES"),
    "simple": simple,
    "scalar": scalar,
    "any-length": any_length,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "multilabel": multilabel,
    "linear": linear,
    "layers": layers,
    "embedding": embedding,
    "division": division,
    "whole-batch": whole_batch,
    "unbatched": unbatched,
    "pair": pair,
    "root": root,
}


def save(model: onnx.ModelProto, repository: Path, name: str, version: int = 1) -> Path:
    """Write a model into a repository, and return the file's path."""
    path = repository / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(model, path)
    return path


def save_beside(model: onnx.ModelProto, repository: Path, name: str) -> Path:
    """Write a model whose tensors are all in one file beside it; return that file's path."""
    beside = "model.onnx.data"
    convert_model_to_external_data(model, location=beside, size_threshold=0, convert_attribute=True)
    return save(model, repository, name).with_name(beside)


def configured(repository: Path, name: str, model: onnx.ModelProto, text: str) -> None:
    """Write a model with this text as its `config.pbtxt`."""
    save(model, repository, name)
    (repository / name / "config.pbtxt").write_text(text)


def gated(rows: int, more: str = "") -> str:
    """Return a configuration by which requests wait until there are `rows` rows."""
    delay = f"max_queue_delay_microseconds: 600000000 preferred_batch_size: {rows}"
    return f"max_batch_size: 64 dynamic_batching {{ {delay} {more} }}"


def save_golden(model_file: Path, given: np.ndarray, expected: np.ndarray) -> None:
    """Write a golden sample of input x and output p beside a model's file."""
    folder = model_file.parent / "test_data_set_0"
    folder.mkdir()
    for file, name, array in (("input_0", "x", given), ("output_0", "p", expected)):
        tensor = numpy_helper.from_array(array, name)
        (folder / f"{file}.pb").write_bytes(tensor.SerializeToString())


# Words with what each weighs for tennis and for the café; only the rules of a locale know its é.
WORDS = {"café": [-1.0, 2.0], "menu": [0.0, 1.5], "rally": [2.5, -1.0], "serve": [1.0, 0.5]}


def bag_of_words(**locale: str) -> onnx.ModelProto:
    """Map a text to probabilities by counts of its words, in any case of letters.

    The nodes are those that scikit-learn's TfidfVectorizer is converted to. `locale="en_US"` names
    the locale of the model; without it the operator's is en_US.UTF-8.
    """
    weights = np.array(list(WORDS.values()), np.float32)
    lower: dict[str, Any] = {"case_change_action": "LOWER", "is_case_sensitive": 0, **locale}
    tokens: dict[str, Any] = {"separators": [" "], "pad_value": "#", "mark": 0, "mincharnum": 1}
    grams: dict[str, Any] = {"mode": "TF", "min_gram_length": 1, "max_gram_length": 1}
    grams |= {"max_skip_count": 0, "ngram_counts": [0], "ngram_indexes": list(range(len(WORDS)))}
    nodes = [
        make_node("Reshape", ["x", "flat"], ["texts"]),
        make_node("StringNormalizer", ["texts"], ["lowered"], **lower),
        make_node("Tokenizer", ["lowered"], ["words"], domain="com.microsoft", **tokens),
        make_node("TfIdfVectorizer", ["words"], ["counts"], pool_strings=list(WORDS), **grams),
        make_node("Gemm", ["counts", "weights"], ["scores"]),
        make_node("Softmax", ["scores"], ["p"], axis=-1),
    ]
    model = graph(
        nodes,
        [tensor("x", "BYTES", "batch", 1)],
        [tensor("p", "FP32", "batch", 2)],
        {"weights": weights, "flat": np.array([-1])},
        task="multiclass",
        labels=["tennis", "café"],
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model
