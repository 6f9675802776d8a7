"""Models whose answers have the same bits on every CPU, each beside what it is in NumPy.

Their graphs copy, cast, choose, and multiply and add numbers whose results need no rounding; a cast
to a narrower type rounds to nearest even, as IEEE 754 says. Their numbers are no network's: a
request gives the probabilities themselves, so that every case of an answer can be asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.helper import make_node

from support import files
from support.files import tensor

Array = NDArray[Any]
Arrays = dict[str, Array]

# The protocol's dtypes in NumPy. Elements of BYTES are bytes objects.
NUMPY: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
INTEGERS = tuple(dtype for dtype in NUMPY if "INT" in dtype)

# The two spellings of one letter: composed, and with a combining mark. They are different names.
COMPOSED, COMBINING = "\u00e9", "e\u0301"
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467"
WORLD = f"mod\u00e8le-{COMBINING}-\u6a21\u578b-\u05e9\u05dc\u05d5\u05dd-\U0001f98a"
# Texts that a decoder may break: marks, right to left, planes above the first, quotes and controls.
LABELS = (
    COMPOSED,
    COMBINING,
    FAMILY,
    "\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645",
    "\u202eback\u202c",
    'quote " slash \\ / <&>',
    "tab\tline\nnul\0end",
    "\ufeff\U0010ffff\u2028",
)
TEXTS: dict[bytes, float] = {
    b"fish": 1.0,
    b"": 0.25,
    COMPOSED.encode(): 0.5,
    COMBINING.encode(): 0.75,
    FAMILY.encode(): 0.125,
}


@dataclass(frozen=True)
class Head:
    """A head, as the metadata of a model says it."""

    task: str
    labels: Sequence[str] = ()
    thresholds: Sequence[float] = ()
    name: str = ""
    output: str = "p"

    def stated(self) -> dict[str, Any]:
        """Return the entries of the metadata."""
        entries = {"name": self.name, "output": self.output, "task": self.task}
        lists = {"labels": [*self.labels], "thresholds": [*self.thresholds]}
        return {key: entry for key, entry in (entries | lists).items() if entry}


@dataclass(frozen=True)
class Exact:
    """A model.

    Attributes:
        graph: Its file.
        run: What the graph computes: the outputs by name, for the inputs by name.
        heads: Its heads, the first of them the default.
        golden: Inputs of a golden sample. A model whose generated rows are no probabilities serves
            only because its golden samples are.
        config: Text of its config.pbtxt; none where it is empty.
        loads: Whether a server can load it.
    """

    graph: onnx.ModelProto
    run: Callable[[Arrays], Arrays]
    heads: Sequence[Head] = ()
    golden: Mapping[str, Any] | None = None
    config: str = ""
    loads: bool = True

    def save(self, repository: Path, name: str, version: int = 1) -> None:
        """Write the model into a repository."""
        path = files.save(self.graph, repository, name, version)
        if self.config:
            (repository / name / "config.pbtxt").write_text(self.config)
        if self.golden is not None:
            folder = path.parent / "test_data_set_0"
            folder.mkdir()
            inputs = {key: np.asarray(value) for key, value in self.golden.items()}
            for kind, arrays in (("input", inputs), ("output", self.run(inputs))):
                for number, (key, array) in enumerate(arrays.items()):
                    sample = numpy_helper.from_array(array, key).SerializeToString()
                    (folder / f"{kind}_{number}.pb").write_bytes(sample)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None,
    *heads: Head,
) -> onnx.ModelProto:
    """Make a model file with these heads."""
    match [head.stated() for head in heads]:
        case []:
            stated: dict[str, Any] = {}
        case [only] if "name" not in only:
            stated = only
        case several:
            stated = {"heads": several}
    return files.graph(nodes, inputs, outputs, weights, **stated)


def same(head: Head, classes: int, dtype: str = "FP32", config: str = "") -> Exact:
    """Answer rows of probabilities, the input x, with themselves."""
    shapes = [tensor(name, dtype, "batch", classes) for name in "xp"]
    golden = np.eye(1, classes, dtype=NUMPY[dtype])
    graph = model([make_node("Identity", ["x"], ["p"])], shapes[:1], shapes[1:], None, head)
    return Exact(graph, lambda given: {"p": given["x"]}, [head], {"x": golden}, config)


def flat() -> Exact:
    """Answer one probability for each row; neither the input nor the output has an axis of 1."""
    head = Head("binary")
    shapes = [tensor(name, "FP32", "batch") for name in "xp"]
    graph = model([make_node("Identity", ["x"], ["p"])], shapes[:1], shapes[1:], None, head)
    golden = {"x": np.array([0.5], np.float32)}
    return Exact(graph, lambda given: {"p": given["x"]}, [head], golden)


def integers(dtype: str) -> Exact:
    """Take two integers of a dtype apart: their low bits, and then their place in its range.

    Every bit of an integer is in the answer, which is FP64: the low half, at most 16 bits, divided
    by their number of values, and the 53 highest bits as a fraction.
    """
    bits = 8 * np.dtype(NUMPY[dtype]).itemsize
    base, least = 2 ** min(bits // 2, 16), 2.0 ** (bits - 1) if dtype.startswith("INT") else 0.0
    weights = {
        "base": np.array(base, NUMPY[dtype]),
        "of-base": np.array(1 / base),
        "least": np.array(least),
        "of-range": np.array(2.0**-bits),
    }
    nodes = [
        make_node("Mod", ["x", "base"], ["rest"]),
        make_node("Cast", ["rest"], ["rest-64"], to=TensorProto.DOUBLE),
        make_node("Mul", ["rest-64", "of-base"], ["low"]),
        make_node("Cast", ["x"], ["x-64"], to=TensorProto.DOUBLE),
        make_node("Add", ["x-64", "least"], ["above"]),
        make_node("Mul", ["above", "of-range"], ["high"]),
        make_node("Concat", ["low", "high"], ["p"], axis=1),
    ]
    head = Head("multilabel", ["low 0", "low 1", "high 0", "high 1"], [0.5] * 4)
    shapes = [tensor("x", dtype, "batch", 2)], [tensor("p", "FP64", "batch", 4)]

    def run(given: Arrays) -> Arrays:
        x = given["x"]
        low = np.mod(x, NUMPY[dtype](base)).astype(np.float64) / base
        high = (x.astype(np.float64) + least) * 2.0**-bits
        return {"p": np.concatenate([low, high], axis=1)}

    return Exact(model(nodes, *shapes, weights, head), run, [head])


def flags() -> Exact:
    """Answer flags with the probabilities 0 and 1."""
    head = Head("multilabel", ["a", "b", "c"])
    node = make_node("Cast", ["x"], ["p"], to=TensorProto.FLOAT)
    shapes = [tensor("x", "BOOL", "batch", 3)], [tensor("p", "FP32", "batch", 3)]
    return Exact(
        model([node], *shapes, None, head), lambda given: {"p": given["x"].astype("f4")}, [head]
    )


def texts() -> Exact:
    """Answer two texts with a probability each: that of `TEXTS`, and 0 for any other."""
    head = Head("multilabel", ["first", "second"])
    node = make_node(
        "LabelEncoder",
        ["x"],
        ["p"],
        domain="ai.onnx.ml",
        keys_strings=[*TEXTS],
        values_floats=[*TEXTS.values()],
        default_float=0.0,
    )
    shapes = [tensor("x", "BYTES", "batch", 2)], [tensor("p", "FP32", "batch", 2)]

    def run(given: Arrays) -> Arrays:
        return {"p": np.vectorize(lambda text: TEXTS.get(text, 0.0), ["f4"])(given["x"])}

    return Exact(model([node], *shapes, None, head), run, [head])


def pixels() -> Exact:
    """Answer images of 2 x 2 bytes with their values / 256, as four classes and two axes of 1."""
    head = Head("multilabel", ["a", "b", "c", "d"])
    weights = {"of-byte": np.array(2.0**-8, np.float32), "shape": np.array([-1, 4, 1, 1])}
    nodes = [
        make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        make_node("Mul", ["floats", "of-byte"], ["parts"]),
        make_node("Reshape", ["parts", "shape"], ["p"]),
    ]
    shapes = [tensor("image", "UINT8", "batch", 2, 2)], [tensor("p", "FP32", "batch", 4, 1, 1)]

    def run(given: Arrays) -> Arrays:
        return {"p": (given["image"] / np.float32(256)).astype("f4").reshape(-1, 4, 1, 1)}

    return Exact(model(nodes, *shapes, weights, head), run, [head])


def several() -> Exact:
    """Add up inputs of three dtypes: x / 2 + whole / 4 + flag / 8."""
    head = Head("multilabel", ["left", "right"], [0.5, 0.5])
    weights = {name: np.array(2.0**-n, np.float32) for n, name in enumerate(["1", "2", "4", "8"])}
    nodes = [
        make_node("Cast", ["whole"], ["whole-32"], to=TensorProto.FLOAT),
        make_node("Cast", ["flag"], ["flag-32"], to=TensorProto.FLOAT),
        make_node("Mul", ["x", "2"], ["x-2"]),
        make_node("Mul", ["whole-32", "4"], ["whole-4"]),
        make_node("Mul", ["flag-32", "8"], ["flag-8"]),
        make_node("Sum", ["x-2", "whole-4", "flag-8"], ["p"]),
    ]
    dtypes = {"x": "FP32", "whole": "INT64", "flag": "BOOL"}
    inputs = [tensor(name, dtype, "batch", 2) for name, dtype in dtypes.items()]
    golden = {name: np.ones((1, 2), NUMPY[dtype]) for name, dtype in dtypes.items()}

    def run(given: Arrays) -> Arrays:
        whole, flag = (given[name].astype(np.float32) for name in ("whole", "flag"))
        return {"p": given["x"] / np.float32(2) + whole / np.float32(4) + flag / np.float32(8)}

    del weights["1"]
    graph = model(nodes, inputs, [tensor("p", "FP32", "batch", 2)], weights, head)
    return Exact(graph, run, [head], golden)


def spellings() -> Exact:
    """Take two inputs whose names are one letter in two spellings; the first is half the answer."""
    head = Head("multilabel", LABELS, name=COMBINING)
    half, quarter = np.array(0.5, np.float32), np.array(0.25, np.float32)
    nodes = [
        make_node("Mul", [COMPOSED, "half"], ["halves"]),
        make_node("Mul", [COMBINING, "quarter"], ["quarters"]),
        make_node("Add", ["halves", "quarters"], ["p"]),
    ]
    shape = ("batch", len(LABELS))
    inputs = [tensor(name, "FP32", *shape) for name in (COMPOSED, COMBINING)]
    golden = {name: np.eye(1, len(LABELS), dtype="f4") for name in (COMPOSED, COMBINING)}
    weights = {"half": half, "quarter": quarter}
    return Exact(
        model(nodes, inputs, [tensor("p", "FP32", *shape)], weights, head),
        lambda given: {"p": given[COMPOSED] * half + given[COMBINING] * quarter},
        [head],
        golden,
    )


def heads() -> Exact:
    """Answer a row of three probabilities as three heads, of which two are about one output."""
    found = [
        Head("multiclass", ["zero", "one", "two"], name="kind", output="same"),
        Head("multilabel", ["a", "b", "c"], [0.25, 0.5, 0.75], "traits", "wide"),
        Head("multilabel", LABELS[:3], [0.5] * 3, FAMILY, "wide"),
        Head("binary", ["calm", "alarm"], [0.125], "alarm", "first"),
    ]
    nodes = [
        make_node("Identity", ["x"], ["same"]),
        make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        make_node("Cast", ["x"], ["halves"], to=TensorProto.FLOAT16),
        make_node("Gather", ["halves", "zero"], ["first"], axis=1),
    ]
    outputs = [
        tensor("same", "FP32", "batch", 3),
        tensor("wide", "FP64", "batch", 3),
        tensor("first", "FP16", "batch", 1),
    ]

    def run(given: Arrays) -> Arrays:
        x = given["x"]
        return {"same": x, "wide": x.astype("f8"), "first": x[:, :1].astype("f2")}

    shapes = [tensor("x", "FP32", "batch", 3)], outputs
    graph = model(nodes, *shapes, {"zero": np.array([0])}, *found)
    return Exact(graph, run, found, {"x": np.eye(1, 3, dtype="f4")})


def reversed_classes() -> Exact:
    """Answer three probabilities with the last first."""
    head = Head("multiclass", ["zero", "one", "two"])
    shapes = [tensor(name, "FP32", "batch", 3) for name in "xp"]
    node = make_node("Gather", ["x", "order"], ["p"], axis=1)
    graph = model([node], shapes[:1], shapes[1:], {"order": np.array([2, 1, 0])}, head)
    return Exact(
        graph, lambda given: {"p": given["x"][:, ::-1]}, [head], {"x": np.eye(1, 3, dtype="f4")}
    )


def free() -> Exact:
    """Add an eighth of the sum of any number of further numbers to two probabilities."""
    head = Head("multilabel", ["a", "b"])
    weights = {"eighth": np.array(0.125, np.float32), "axis": np.array([1])}
    nodes = [
        make_node("ReduceSum", ["more", "axis"], ["sum"]),
        make_node("Mul", ["sum", "eighth"], ["part"]),
        make_node("Add", ["x", "part"], ["p"]),
    ]
    inputs = [tensor("x", "FP32", "batch", 2), tensor("more", "FP32", "batch", "length")]

    def run(given: Arrays) -> Arrays:
        return {"p": given["x"] + given["more"].sum(1, np.float32, keepdims=True) / np.float32(8)}

    graph = model(nodes, inputs, [tensor("p", "FP32", "batch", 2)], weights, head)
    return Exact(
        graph, run, [head], {"x": np.eye(1, 2, dtype="f4"), "more": np.zeros((1, 1), "f4")}
    )


def table() -> Exact:
    """Answer an index below 4 with the probability 1 of its class."""
    head = Head("multiclass", ["a", "b", "c", "d"])
    eye = np.eye(4, dtype=np.float32)
    shapes = [tensor("x", "INT64", "batch")], [tensor("p", "FP32", "batch", 4)]
    graph = model([make_node("Gather", ["table", "x"], ["p"])], *shapes, {"table": eye}, head)
    return Exact(graph, lambda given: {"p": eye[given["x"]]}, [head])


def any_classes() -> Exact:
    """Answer as many probabilities as the request gives, where the labels are of two."""
    head = Head("multiclass", ["a", "b"])
    shapes = [tensor(name, "FP32", "batch", "classes") for name in "xp"]
    graph = model([make_node("Identity", ["x"], ["p"])], shapes[:1], shapes[1:], None, head)
    return Exact(graph, lambda given: {"p": given["x"]}, [head], {"x": np.eye(1, 2, dtype="f4")})


def picky() -> Exact:
    """Leave out the rows whose probability is above a half."""
    head = Head("binary", ["no", "yes"])
    weights = {"half": np.array(0.5, np.float32), "flat": np.array([-1])}
    nodes = [
        make_node("LessOrEqual", ["x", "half"], ["small"]),
        make_node("Reshape", ["small", "flat"], ["kept"]),
        make_node("Compress", ["x", "kept"], ["p"], axis=0),
    ]
    shapes = [tensor("x", "FP32", "batch", 1)], [tensor("p", "FP32", "rows", 1)]
    golden = {"x": np.array([[0.25]], np.float32)}
    return Exact(
        model(nodes, *shapes, weights, head),
        lambda given: {"p": given["x"][given["x"][:, 0] <= 0.5]},
        [head],
        golden,
    )


def fills() -> Exact:
    """Answer 0, from as many floats as the row's number says: of a large one there is no room."""
    head = Head("binary", ["no", "yes"])
    weights = {"zero": np.zeros(1, np.float32), "flat": np.array([-1]), "axis": np.array([0])}
    nodes = [
        make_node("ReduceSum", ["x", "axis"], ["count"], keepdims=0),
        make_node("Expand", ["zero", "count"], ["zeros"]),
        make_node("ReduceMax", ["zeros", "axis"], ["most"], keepdims=1),
        make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        make_node("Mul", ["floats", "most"], ["p"]),
    ]
    shapes = [tensor("x", "INT64", "batch", 1)], [tensor("p", "FP32", "batch", 1)]
    return Exact(
        model(nodes, *shapes, weights, head),
        lambda given: {"p": np.zeros_like(given["x"], np.float32)},
        [head],
    )


def turns() -> Exact:
    """Answer 0 after as many turns of a loop as the row's number says."""
    head = Head("binary", ["no", "yes"])
    body = onnx.helper.make_graph(
        [make_node("Identity", ["go"], ["go-on"]), make_node("Add", ["count", "one"], ["more"])],
        "body",
        [tensor("turn", "INT64"), tensor("go", "BOOL"), tensor("count", "INT64")],
        [tensor("go-on", "BOOL"), tensor("more", "INT64")],
    )
    weights = {"one": np.array(1), "none": np.array(0), "go": np.array(True)}
    nodes = [
        make_node("ReduceMax", ["x"], ["turns"], keepdims=0),
        make_node("Loop", ["turns", "go", "none"], ["counted"], body=body),
        make_node("Mul", ["counted", "none"], ["zero"]),
        make_node("Mul", ["x", "zero"], ["zeros"]),
        make_node("Cast", ["zeros"], ["p"], to=TensorProto.FLOAT),
    ]
    shapes = [tensor("x", "INT64", "batch", 1)], [tensor("p", "FP32", "batch", 1)]
    return Exact(
        model(nodes, *shapes, weights, head),
        lambda given: {"p": np.zeros_like(given["x"], np.float32)},
        [head],
    )


def raw(*shape: str | int, task: str = "") -> Exact:
    """Answer with the input. Without a task, or without a batch axis, that is no classification."""
    found = [Head(task)] if task else []
    shapes = [tensor(name, "FP32", *shape) for name in "xp"]
    graph = model([make_node("Identity", ["x"], ["p"])], shapes[:1], shapes[1:], None, *found)
    return Exact(graph, lambda given: {"p": given["x"]}, found)


def unknown() -> Exact:
    """Make a version that cannot be loaded, because no runtime has its operator."""
    return Exact(files.unknown_operator(), lambda given: given, loads=False)


ONE_TWO_THREE = Head("multiclass", ["zero", "one", "two"])
NO_YES = Head("binary", ["no", "yes"], [0.5])
ANIMAL = Head("multilabel", ["fur", "wings", "scales"], [0.25, 0.5, 0.75])
# Every request of this model waits for company until it has waited for too long.
WAITING = (
    "max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 600000000 "
    "preferred_batch_size: 64 default_queue_policy { default_timeout_microseconds: 1 } }"
)

# The models by name, each with its versions.
MODELS: dict[str, list[Exact]] = {
    "binary": [same(NO_YES, 1)],
    "flat": [flat()],
    "multiclass": [same(ONE_TWO_THREE, 3)],
    "unlabelled": [same(Head("multiclass"), 5)],
    "multilabel": [same(ANIMAL, 3)],
    "third": [same(Head("binary", ["no", "yes"], [0.3]), 1)],
    "alike": [same(Head("multiclass", ["twin", "twin", "other"]), 3)],
    **{
        dtype.lower(): [same(Head("multilabel", ["a", "b", "c", "d"]), 4, dtype)]
        for dtype in ("FP16", "BF16", "FP32", "FP64")
    },
    **{dtype.lower(): [integers(dtype)] for dtype in INTEGERS},
    "bool": [flags()],
    "bytes": [texts()],
    "pixels": [pixels()],
    "several": [several()],
    "free": [free()],
    "heads": [heads()],
    WORLD: [spellings()],
    "versions": [same(ONE_TWO_THREE, 3), reversed_classes(), unknown()],
    "limited": [same(ONE_TWO_THREE, 3, config="max_batch_size: 4")],
    "raw": [raw("batch", 3)],
    "unbatched": [raw(3, task="multilabel")],
    "table": [table()],
    "any-classes": [any_classes()],
    "picky": [picky()],
    "fills": [fills()],
    "turns": [turns()],
    "waiting": [same(NO_YES, 1, config=WAITING)],
}
# The limits of the server of these models: the bytes of a message to and from it, and of what a run
# allocates.
MESSAGE_BYTES, RUN_BYTES = 8192, 2**26
FLAGS = (
    f"--max-message-bytes={MESSAGE_BYTES}",
    f"--model-memory-limit={RUN_BYTES}",
    "--max-run-seconds=2",
)


def save_all(repository: Path) -> Path:
    """Write all models into a repository, and return its folder."""
    for name, versions in MODELS.items():
        for number, version in enumerate(versions, 1):
            version.save(repository, name, number)
        if len(versions) > 1:
            policy = "version_policy { all {} }"
            (repository / name / "config.pbtxt").write_text(policy)
    return repository
