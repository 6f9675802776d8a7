"""Writes what clients of every language are tried with: requests, and the answers to them.

The answers are computed here, from the comments of the protos and the models in NumPy
(`support/exact.py`), and never recorded from a server. Errors are those of the table in
`server/core/src/error`; those that a single request cannot cause are not here: of credentials, of a
server that is full, stops or has little memory, of deadlines, of shared memory and model control.

    PYTHONPATH=tests python tests/vectors/clients/generate.py           writes the files
    PYTHONPATH=tests python tests/vectors/clients/generate.py --check   says whether they are these
    PYTHONPATH=tests python tests/vectors/clients/generate.py FOLDER    writes the models to serve
"""

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from support import exact
from support.exact import COMBINING, COMPOSED, FAMILY, NUMPY, WORLD, Array, Head

HERE = Path(__file__).parent
Json = dict[str, Any]

TINY = float(np.finfo(np.float32).smallest_subnormal)
ALMOST_HALF, OVER_HALF = (float(np.nextafter(np.float32(0.5), np.float32(to))) for to in (0, 1))
THIRD = float(np.float32(1 / 3))
SHAPE, DATA = "inputs[x].shape", "inputs[x].data"


@dataclass(frozen=True)
class Input:
    """An input of a request.

    Attributes:
        name: Name in the request.
        array: Values, of the model's dtype.
        dtype: Name of the dtype in the request, or nothing.
        shape: Shape in the request; None: the array's.
        data: Bytes in the request; None: the array's.
    """

    name: str
    array: Array
    dtype: str
    shape: Sequence[int] | None = None
    data: bytes | None = None

    def as_json(self) -> Json:
        data = raw(self.array) if self.data is None else self.data
        shape = self.array.shape if self.shape is None else self.shape
        text = base64.b64encode(data).decode()
        return {"name": self.name, "dtype": self.dtype, "shape": [*shape], "data": text}


def of(kind: str, values: Any, name: str = "x", **claimed: Any) -> Input:
    """Make an input of a dtype; `claimed` is its dtype, shape or data in the request, if others."""
    return Input(name, np.array(values, NUMPY[kind]), **{"dtype": kind, **claimed})


def x(*rows: Sequence[float], **claimed: Any) -> Input:
    """Make the input x of FP32 rows."""
    return of("FP32", rows, **claimed)


def raw(array: Array) -> bytes:
    """Return elements as the protocol has them."""
    if array.dtype == np.object_:
        return b"".join(len(text).to_bytes(4, "little") + text for text in array.flat)
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def request(model: str, inputs: Iterable[Input], options: Json) -> Json:
    """Make the request of a case; an option that is not given is absent."""
    absent: Json = {"version": "", "head": "", "top_k": 0, "threshold": None}
    absent["return_probabilities"] = False
    assert options.keys() <= absent.keys()
    asked: Json = {"model": model, **absent, **options}
    if asked["threshold"] is not None:
        asked["threshold"] = float(np.float32(asked["threshold"]))
    return asked | {"inputs": [each.as_json() for each in inputs]}


def answered(name: str, model: str, *inputs: Input, **options: Any) -> Json:
    """Make a case with an answer."""
    asked = request(model, inputs, options)
    ready = [n for n, each in enumerate(exact.MODELS[model], 1) if each.loads]
    version = int(asked["version"] or ready[-1])
    served = exact.MODELS[model][version - 1]
    [head] = [each for each in served.heads if each.name == asked["head"]] or served.heads[:1]
    # The only input needs no name.
    given = {each.name or "x": each.array for each in inputs}
    output = served.run(given)[head.output]
    probabilities = np.asarray(output, np.float32).reshape(len(output), -1)
    rows = [classification(row, head, asked["top_k"], asked["threshold"]) for row in probabilities]
    [dtype] = [key for key, kind in NUMPY.items() if output.dtype == kind]
    data = base64.b64encode(raw(output)).decode()
    whole = {"dtype": dtype, "shape": [*output.shape], "data": data}
    answer: Json = {"model": model, "version": str(version), "head": head.name, "rows": rows}
    answer["probabilities"] = whole if asked["return_probabilities"] else None
    return {"name": name, "request": asked, "answer": answer}


def classification(row: Array, head: Head, top_k: int, threshold: float | None) -> Json:
    """Decide a row: the comments of `Classification` and `ClassifyRequest` in the proto."""
    if head.task == "binary":
        row = np.array([np.float32(1) - row[0], row[0]], np.float32)
    falling = np.argsort(-row, kind="stable")
    own = head.thresholds or [0.5] * len(row)
    limits = np.array(own if threshold is None else [threshold] * len(row), np.float32)
    match head.task:
        case "multiclass":
            decided = falling[:1]
        case "binary":
            decided = np.array([int(row[1] > limits[0])])
        case _:
            decided = np.flatnonzero(row > limits)

    def scored(index: int) -> Json:
        label = head.labels[index] if head.labels else ""
        return {"index": int(index), "label": label, "bits": int(row[index].view(np.uint32))}

    shown = falling[: top_k or len(row)]
    return {"classes": [*map(scored, shown)], "decision": [*map(scored, decided)]}


def refusing(error: str, *fields: str) -> Callable[..., Json]:
    """Make a function that makes cases with an error, "CODE REASON", of these fields."""
    code, reason = error.split()
    expected = {"code": code, "reason": reason, "fields": [*fields]}

    def refused(name: str, model: str, *inputs: Input, **options: Any) -> Json:
        return {"name": name, "request": request(model, inputs, options), "error": expected}

    return refused


def wrong(reason: str, field: str) -> Callable[..., Json]:
    """Make a function that makes cases in which a field is wrong."""
    return refusing(f"INVALID_ARGUMENT {reason}", field)


def decisions() -> list[Json]:
    """Return cases of tasks, thresholds, ties and top_k."""
    quarter = [0.25, 0.5, 0.25]
    several = x([0.25], [0.5], [OVER_HALF], [1.0], [0.0])
    animals = x([0.25, 0.5, 0.75], [OVER_HALF] * 3, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    return [
        answered("binary/yes", "binary", x([0.75])),
        answered("binary/no", "binary", x([0.25])),
        answered("binary/several rows", "binary", several),
        answered("binary/at the threshold", "binary", x([0.5])),
        answered("binary/next above the threshold", "binary", x([OVER_HALF])),
        answered("binary/next below the threshold", "binary", x([ALMOST_HALF])),
        answered("binary/own threshold is no binary fraction", "third", x([0.3], [0.25], [0.375])),
        answered("binary/threshold 0", "binary", x([0.0], [TINY], [0.5]), threshold=0),
        answered("binary/threshold 1", "binary", x([1.0], [0.5]), threshold=1),
        answered("binary/threshold of the request", "binary", several, threshold=0.25),
        answered("binary/threshold rounded to a float", "third", x([0.1], [0.125]), threshold=0.1),
        answered("binary/1 - p is rounded", "binary", x([THIRD], [0.1], [1e-8])),
        answered("binary/top 1", "binary", x([0.25], [0.75], [0.5]), top_k=1),
        answered("binary/probabilities", "binary", x([0.25], [1.0]), return_probabilities=True),
        answered("binary/no labels", "flat", of("FP32", [0.25, 0.75])),
        answered("binary/no axis", "flat", of("FP32", [0.5, 0.75]), return_probabilities=True),
        answered("multiclass/one row", "multiclass", x(quarter)),
        answered("multiclass/several rows", "multiclass", x(quarter, [1, 0, 0], [0, 0, 1])),
        answered("multiclass/many rows", "multiclass", x(*np.eye(3)[[2, 0, 1, 1, 2] * 4])),
        answered("multiclass/tie of two", "multiclass", x([0.0, 0.5, 0.5])),
        answered("multiclass/tie of all", "unlabelled", x([0.2] * 5)),
        answered("multiclass/tie at top 2", "multiclass", x([0.25, 0.25, 0.5]), top_k=2),
        answered("multiclass/top 1", "multiclass", x(quarter, [0.5, 0.25, 0.25]), top_k=1),
        answered("multiclass/top of more than all", "multiclass", x(quarter), top_k=2**32 - 1),
        answered("multiclass/no labels", "unlabelled", x([0, 0.125, 0.5, 0.125, 0.25])),
        answered("multiclass/labels alike", "alike", x([0.25, 0.5, 0.25], [0.5, 0.25, 0.25])),
        answered("multiclass/sum off by rounding", "multiclass", x([THIRD] * 3)),
        answered(
            "multiclass/probabilities", "multiclass", x(quarter, quarter), return_probabilities=True
        ),
        answered(
            "multiclass/probabilities of all at top 1",
            "multiclass",
            x(quarter),
            top_k=1,
            return_probabilities=True,
        ),
        answered("multilabel/some", "multilabel", x([0.5, 0.25, 1.0])),
        answered("multilabel/none decided", "multilabel", x([0.125, 0.25, 0.5])),
        answered("multilabel/all decided", "multilabel", x([1.0, 1.0, 1.0])),
        answered("multilabel/at each threshold", "multilabel", x([0.25, 0.5, 0.75])),
        answered("multilabel/several rows", "multilabel", animals),
        answered("multilabel/threshold of the request", "multilabel", animals, threshold=0.5),
        answered("multilabel/threshold 0", "multilabel", x([0.0, TINY, 1.0]), threshold=0),
        answered("multilabel/threshold 1", "multilabel", animals, threshold=1),
        answered("multilabel/top 1 of all decided", "multilabel", x([0.5, 0.75, 1.0]), top_k=1),
        answered(
            "multilabel/classes with axes of 1", "pixels", pixels(), return_probabilities=True
        ),
        answered(
            "values/minus zero", "fp32", x([0.5, 0.25, -0.0, -0.0]), return_probabilities=True
        ),
        answered("values/minus zero as binary", "binary", x([-0.0]), return_probabilities=True),
        answered("values/denormals", "fp32", x([TINY, 3 * TINY, 1e-40, 1e-38]), threshold=TINY),
        answered("values/next to 1", "fp32", x([1 - 2**-24, 1.0, 1 + 2**-23, 0.0]), threshold=1),
        answered("values/just out of range", "binary", x([1.0005], [-0.0005])),
    ]


def pixels() -> Input:
    """Make two images of 2 x 2 bytes."""
    return of("UINT8", np.array([0, 1, 128, 255, 2, 4, 8, 16]).reshape(2, 2, 2), "image")


def dtypes() -> list[Json]:
    """Return cases of every dtype of the protocol, with its extremes."""
    cases = []
    for dtype in exact.INTEGERS:
        info = np.iinfo(NUMPY[dtype])
        rows = [[info.min, info.max], [0, 1], [info.max - 1, info.max // 3], [info.min + 1, 77]]
        model = dtype.lower()
        cases += [
            answered(f"{dtype}/extremes", model, of(dtype, rows), return_probabilities=True),
            answered(f"{dtype}/of the model", model, of(dtype, rows[:2], dtype="")),
        ]
    beyond = [[2**53 + 1, 2**63 - 1], [2**53 - 1, 2**62 + 1]]
    cases += [
        answered(
            f"{dtype}/beyond 2^53", dtype.lower(), of(dtype, beyond), return_probabilities=True
        )
        for dtype in ("INT64", "UINT64")
    ]
    smallest = {"FP16": 2.0**-24, "BF16": 2.0**-133, "FP32": TINY, "FP64": 5e-324}
    for dtype, least in smallest.items():
        floats = [[0.5, 0.25, 0.75, 1.0], [0.1, 1 / 3, 0.9, 0.0], [least, 0.625, least * 3, -0.0]]
        model = dtype.lower()
        cases += [
            answered(f"{dtype}/values", model, of(dtype, floats), return_probabilities=True),
            answered(f"{dtype}/of the model", model, of(dtype, floats[1:2], dtype="")),
        ]
    flags = [[True, False, True], [False, False, False], [True, True, True]]
    known = [[b"fish", b"fowl"], [b"", b"Fish"]]
    marked = [[COMPOSED.encode(), COMBINING.encode()], [FAMILY.encode(), b"f\xc3\xa9"]]
    binary = [[b"fish\x00", b"\x00"], [b"\xff\xfe", b"fish" * 100]]
    return [
        *cases,
        answered("BOOL/values", "bool", of("BOOL", flags), return_probabilities=True),
        answered("BOOL/of the model", "bool", of("BOOL", flags, dtype="")),
        answered("BYTES/texts", "bytes", of("BYTES", known), return_probabilities=True),
        answered("BYTES/empty texts", "bytes", of("BYTES", [[b"", b""]])),
        answered("BYTES/two spellings of a letter", "bytes", of("BYTES", marked)),
        answered("BYTES/zeros and no UTF-8", "bytes", of("BYTES", binary)),
        answered("BYTES/of the model", "bytes", of("BYTES", known, dtype="")),
    ]


def requests() -> list[Json]:
    """Return cases of inputs, heads, versions and names."""
    parts = [
        x([0.5, 0.25], [1.0, 0.0]),
        of("INT64", [[1, 2], [0, 3]], "whole"),
        of("BOOL", [[True, False], [False, True]], "flag"),
    ]
    untyped = [Input(each.name, each.array, "") for each in parts]
    row = x([0.25, 0.5, 0.25])
    three = x([0.25, 0.625, 0.125], [0.75, 0.125, 0.125])
    letters = [
        of("FP32", [[1.0, 0.5, 0.25, 0.125, 0.0, 1.0, 0.75, 0.5]], COMPOSED),
        of("FP32", [[0.5, 1.0, 0.75, 0.25, 1.0, 0.0, 0.5, 1.0]], COMBINING),
    ]
    empty = of("FP32", np.zeros((2, 0)), "more")
    traits: Json = {"head": "traits", "return_probabilities": True}
    return [
        answered("inputs/of three dtypes", "several", *parts),
        answered("inputs/in another order", "several", *reversed(parts)),
        answered("inputs/of the model's dtypes", "several", parts[2], *untyped[:2]),
        answered("inputs/without a name", "multiclass", x([0.25, 0.5, 0.25], name="")),
        answered("inputs/without name and dtype", "multiclass", x([0, 1, 0], name="", dtype="")),
        answered("inputs/three axes", "pixels", pixels()),
        answered("inputs/a free axis", "free", x([0.25, 0.5]), of("FP32", [[1, 0.5, 1]], "more")),
        answered("inputs/an axis of no elements", "free", x([0.25, 0.5], [0, 1]), empty),
        answered("heads/the first", "heads", three, return_probabilities=True),
        answered("heads/multiclass by name", "heads", three, head="kind"),
        answered("heads/multilabel of FP64", "heads", three, **traits),
        answered("heads/multilabel none decided", "heads", x([0.25, 0.5, 0.25]), **traits),
        answered("heads/top 2", "heads", three, **traits, top_k=2),
        answered("heads/name in emoji", "heads", three, head=FAMILY),
        answered("heads/binary of FP16", "heads", three, head="alarm", return_probabilities=True),
        answered("heads/binary at its threshold", "heads", x([0.125, 0.5, 0.375]), head="alarm"),
        answered("heads/threshold of the request", "heads", three, head="alarm", threshold=0.75),
        answered("versions/the newest that is ready", "versions", row),
        answered("versions/1", "versions", x([0.5, 0.25, 0.25]), version="1"),
        answered("versions/2", "versions", x([0.5, 0.25, 0.25]), version="2"),
        answered("names/of the world", WORLD, *letters, return_probabilities=True),
        answered("names/in another order", WORLD, *reversed(letters)),
        answered("names/combining head", WORLD, *letters, head=COMBINING, threshold=0.25),
        answered("limits/as many rows as allowed", "limited", x(*[[0.25, 0.5, 0.25]] * 4)),
    ]


def errors() -> list[Json]:
    """Return cases of every error that a request by itself can cause."""
    return [*errors_of_names(), *errors_of_tensors(), *errors_of_values(), *errors_of_limits()]


def errors_of_names() -> list[Json]:
    """Return cases of models, versions, heads, thresholds and inputs that are not there."""
    row = x([0.25, 0.5, 0.25])
    one, flag = x([0.5, 0.25]), of("BOOL", [[True, True]], "flag")
    whole = of("INT64", [[1, 2]], "whole")
    unknown = refusing("NOT_FOUND UNKNOWN_MODEL")
    no_classifier = refusing("FAILED_PRECONDITION NOT_A_CLASSIFIER")
    no_version = refusing("NOT_FOUND UNKNOWN_VERSION")
    not_ready = refusing("UNAVAILABLE MODEL_NOT_READY")
    version, head = wrong("BAD_VERSION", "model_version"), wrong("UNKNOWN_HEAD", "head")
    threshold, missing = wrong("BAD_FIELD", "threshold"), wrong("MISSING_INPUT", "inputs")
    return [
        unknown("models/unknown", "nobody", row),
        unknown("models/unknown in emoji", FAMILY, row),
        unknown("models/no name", "", row),
        no_classifier("models/no task", "raw", row),
        no_classifier("models/no rows", "unbatched", row),
        no_version("versions/unknown", "versions", row, version="9"),
        not_ready("versions/broken", "versions", row, version="3"),
        version("versions/0", "versions", row, version="0"),
        version("versions/no number", "versions", row, version="newest"),
        version("versions/below 0", "versions", row, version="-1"),
        head("heads/unknown", "heads", row, head="tail"),
        head("heads/none has a name", "binary", row, head="p"),
        head("heads/another spelling", WORLD, head=COMPOSED),
        threshold("threshold/of multiclass", "multiclass", row, threshold=0.5),
        threshold("threshold/over 1", "multilabel", row, threshold=1 + 2**-23),
        threshold("threshold/below 0", "multilabel", row, threshold=-TINY),
        missing("inputs/none", "multiclass"),
        missing("inputs/one of three", "several", one),
        missing("inputs/two of three", "several", flag, one),
        missing("inputs/two of one", "multiclass", row, replace(row, name="y")),
        wrong("UNEXPECTED_INPUT", "inputs[y]")("inputs/unknown", "binary", x([0.5], name="y")),
        wrong("UNEXPECTED_INPUT", "inputs[]")(
            "inputs/without a name of three", "several", replace(one, name=""), whole, flag
        ),
        wrong("DUPLICATE_INPUT", "inputs[x]")("inputs/twice", "several", one, one, flag),
    ]


def errors_of_tensors() -> list[Json]:
    """Return cases of dtypes, shapes and data that do not fit the model or each other."""
    row = [0.25, 0.5, 0.25]
    dtype, shape = wrong("DTYPE_MISMATCH", "inputs[x].dtype"), wrong("SHAPE_MISMATCH", SHAPE)
    rows, size = wrong("BATCH_SIZE", SHAPE), wrong("BYTE_SIZE_MISMATCH", DATA)
    count = wrong("STRING_COUNT_MISMATCH", DATA)
    text, fish = [[b"fish", b"fowl"]], b"\4\0\0\0fish"
    return [
        dtype("dtypes/FP64 for FP32", "multiclass", of("FP64", [row])),
        dtype("dtypes/INT32 for UINT32", "uint32", of("INT32", [[1, 2]])),
        dtype("dtypes/FP16 for BF16", "bf16", of("FP16", [[0.5] * 4])),
        dtype("dtypes/UINT8 for BOOL", "bool", of("UINT8", [[0, 1, 0]])),
        dtype("dtypes/UINT8 for BYTES", "bytes", of("UINT8", [[1, 2]])),
        shape("shapes/too wide", "multiclass", x([0.25] * 4)),
        shape("shapes/one axis", "multiclass", of("FP32", row)),
        shape("shapes/no axis", "multiclass", x([0.25], shape=[])),
        shape("shapes/three axes", "multiclass", of("FP32", [[row]])),
        shape("shapes/below 0", "multiclass", x(row, shape=[-1, 3])),
        shape("shapes/beyond 2^62", "multiclass", x(row, shape=[1, 2**62 + 1])),
        wrong("SHAPE_MISMATCH", f"inputs[{COMBINING}].shape")(
            "shapes/of a combining name",
            WORLD,
            of("FP32", [[0.5] * 8], COMPOSED),
            of("FP32", [[0.5] * 7], COMBINING),
        ),
        rows("rows/none", "limited", of("FP32", np.zeros((0, 3)))),
        rows("rows/too many", "limited", x(*[row] * 5)),
        wrong("BATCH_SIZE_MISMATCH", "inputs[whole].shape")(
            "rows/differ",
            "several",
            x([0.5, 0.25]),
            of("INT64", [[1, 2], [1, 2]], "whole"),
            of("BOOL", [[True, True]], "flag"),
        ),
        size("data/none", "multiclass", x(row, data=b"")),
        size("data/too short", "multiclass", x(row, data=bytes(11))),
        size("data/too long", "multiclass", x(row, data=bytes(16))),
        size("data/a row too few", "multiclass", x(row, shape=[2, 3])),
        count("texts/fewer", "bytes", of("BYTES", text, shape=[2, 2])),
        count("texts/more", "bytes", of("BYTES", text * 2, shape=[1, 2])),
        count("texts/a cut length", "bytes", of("BYTES", text, data=fish + b"\4\0\0")),
        count("texts/a cut text", "bytes", of("BYTES", text, data=fish + b"\4\0\0\0fow")),
        count("texts/a huge length", "bytes", of("BYTES", text, data=fish + b"\xff" * 4)),
    ]


def errors_of_values() -> list[Json]:
    """Return cases of values that the dtype does not have, or that give no probabilities."""
    infinite, nan = float("inf"), float("nan")
    flags = of("BOOL", [[True, False, True]], data=b"\1\0\2")
    no_number, no_probability = (
        wrong("NOT_FINITE", "inputs[x]"),
        wrong("NO_PROBABILITY", "inputs[x]"),
    )
    return [
        wrong("BAD_ELEMENT", DATA)("values/no flag", "bool", flags),
        no_number("values/not a number", "multilabel", x([0.5, nan, 0.5])),
        no_number("values/infinite", "multilabel", x([0.5] * 3, [0, 0, -infinite])),
        no_probability("values/over 1", "multilabel", x([0.5, 1.5, 0.5])),
        no_probability("values/below 0", "binary", x([0.5], [-0.25])),
        no_probability("values/a sum that is not 1", "multiclass", x([0.5, 0.25, 0.5])),
        wrong("VALUES_REFUSED", "inputs")("values/not in a table", "table", of("INT64", [0, 4])),
        refusing("INTERNAL ROWS_LOST")("answers/fewer rows", "picky", x([0.25], [0.75])),
        refusing("INTERNAL ENGINE_FAULT")(
            "answers/more classes than labels", "any-classes", x([0.5, 0.25, 0.25])
        ),
    ]


def errors_of_limits() -> list[Json]:
    """Return cases over the limits of the server (`exact.FLAGS`) or of the model."""
    large = x([0.5], data=bytes(exact.MESSAGE_BYTES))
    many, huge = of("BOOL", np.zeros((400, 3))), of("INT64", [[exact.RUN_BYTES]])
    exhausted = "RESOURCE_EXHAUSTED"
    too_long = refusing("DEADLINE_EXCEEDED RUN_TOO_LONG")
    return [
        refusing(f"{exhausted} MESSAGE_TOO_LARGE")("limits/message", "binary", large),
        refusing(f"{exhausted} REPLY_TOO_LARGE")("limits/answer", "bool", many),
        refusing(f"{exhausted} RUN_TOO_LARGE")("limits/memory of a run", "fills", huge),
        too_long("limits/time of a run", "turns", of("INT64", [[2**62]])),
        refusing("UNAVAILABLE QUEUE_TIMEOUT")("limits/time in the queue", "waiting", x([0.5])),
    ]


def written() -> dict[Path, str]:
    """Return the text of each file: a case in each line."""
    files = {
        "decisions": decisions(),
        "dtypes": dtypes(),
        "requests": requests(),
        "errors": errors(),
    }
    for group, cases in files.items():
        for case in cases:
            case["name"] = f"{group}/{case['name']}"
    names = [case["name"] for cases in files.values() for case in cases]
    assert len(set(names)) == len(names), "names are to be unique"
    return {
        HERE / f"{group}.json": '{"cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n"
        for group, cases in files.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="write the models to serve into it")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    if options.folder:
        exact.save_all(options.folder)
        return
    for path, text in written().items():
        if not options.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path}: not what generate.py writes; run `make proto`")


if __name__ == "__main__":
    main()
