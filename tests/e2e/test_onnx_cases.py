"""The ONNX project's own test cases: what ONNX Runtime runs right is served, with the same bits."""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
from onnx.backend.test.runner import Runner
from onnx.helper import tensor_dtype_to_np_dtype
from support.files import ELEMENTS
from support.onnx_cases import Sample, read_sample, write_cases
from support.server import Server
from support.wire import Tensor, infer

pytestmark = pytest.mark.slow

ONNX_TYPES = {tensor_dtype_to_np_dtype(number): number for number in ELEMENTS.values()}
DATATYPES = {tensor_dtype_to_np_dtype(number): name for name, number in ELEMENTS.items()}
# ONNX Runtime's names of the types that the protocol has.
SERVED_TYPES = {
    *(f"tensor({name})" for name in ("bool", "float16", "bfloat16", "float", "double", "string")),
    *(f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
REFUSED_TYPES = {
    *(f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (2, 4)),
    *(f"tensor(float8{form})" for form in ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0")),
    *(f"seq(tensor({name}))" for name in ("float", "int64")),
    "optional(seq(tensor(float)))",
}
# The expected numbers of these cases have four digits; an answer may differ by 1e-5.
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad", "test_gridsample_bicubic"}
# FP16 may differ by two roundings, 0.002; ONNX allows 0.001.
ONE_ROUNDING = {"test_attention_4d_causal_fp16"}


@dataclass
class Case:
    """A test case as ONNX Runtime has it, in this process.

    Attributes:
        types: Types of inputs and outputs that the protocol does not have.
        inputs: The inputs of the golden sample.
        outputs: ONNX Runtime's answer; none where it refuses to load or to run the model.
        is_right: Whether the answer is the one that ONNX expects.
    """

    types: frozenset[str] = frozenset()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    is_right: bool = False


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    write_cases(folder)
    return folder


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("log") / "log", repository, "--shards=1") as server:
        yield server


@pytest.fixture(scope="module")
def states(served: Server) -> dict[str, tuple[str, str]]:
    """The state of each model, and its reason."""
    models = served.client.models()
    return {model.name: (model.versions[0].state, model.versions[0].reason) for model in models}


@pytest.fixture(scope="module")
def cases(repository: Path) -> dict[str, Case]:
    return {folder.name: run(folder / "1") for folder in sorted(repository.iterdir())}


def run(folder: Path) -> Case:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    except Exception:  # its exceptions have no class of their own
        return Case()
    types = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if foreign := types - SERVED_TYPES:
        return Case(types=frozenset(foreign))
    names = [each.name for each in session.get_inputs()]
    sample = read_sample(folder / "test_data_set_0", names)
    inputs = tuple(tensor_of(name, array) for name, array in sample.inputs.items())
    try:
        answers = answers_of(session, sample)
    except Exception:
        return Case(inputs=inputs)
    names = [each.name for each in session.get_outputs()]
    outputs = tuple(tensor_of(*pair) for pair in zip(names, answers, strict=True))
    return Case(inputs=inputs, outputs=outputs, is_right=is_right(sample, answers))


def answers_of(session: onnxruntime.InferenceSession, sample: Sample) -> list[np.ndarray]:
    """Return ONNX Runtime's answers, by its values where NumPy does not have a type."""
    values = [*session.get_inputs(), *session.get_outputs()]
    # The bits of some kernels depend on the addresses of arrays: NumPy's own are aligned.
    given = {name: np.array(array) for name, array in sample.inputs.items()}
    if "tensor(bfloat16)" not in {value.type for value in values}:
        return list(session.run(None, given))
    made = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type
    feeds = {name: made(array, ONNX_TYPES[array.dtype]) for name, array in given.items()}
    return [array_of(value) for value in session.run_with_ort_values(None, feeds)]


def array_of(value: onnxruntime.OrtValue) -> np.ndarray:
    """Return a copy of a value of numbers."""
    dtype = tensor_dtype_to_np_dtype(value.element_type())
    shape = value.shape()
    raw = ctypes.string_at(value.data_ptr(), math.prod(shape) * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(shape)


def tensor_of(name: str, array: np.ndarray) -> Tensor:
    if array.dtype == object:
        texts = [text.encode() for text in array.ravel()]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        return Tensor(name, "BYTES", array.shape, raw)
    return Tensor(name, DATATYPES[array.dtype], array.shape, array.tobytes())


def is_right(sample: Sample, answers: list[np.ndarray]) -> bool:
    """Whether ONNX's own tests accept these answers."""
    try:
        Runner.assert_similar_outputs(sample.outputs, answers, rtol=1e-3, atol=1e-7)
    except AssertionError:
        return False
    return True


def test_what_onnx_runtime_runs_right_is_served(
    states: dict[str, tuple[str, str]], cases: dict[str, Case]
) -> None:
    ready = {name for name, (state, _) in states.items() if state == "ready"}
    right = {name for name, case in cases.items() if case.is_right}
    assert len(right) > 1500
    assert right - ready == FOUR_DIGITS
    assert ready - right <= ONE_ROUNDING
    assert {states[name][1] for name in ready} == {""}


def test_what_is_not_served_is_refused_with_the_reason(
    states: dict[str, tuple[str, str]], cases: dict[str, Case]
) -> None:
    for name, case in cases.items():
        state, reason = states[name]
        if state != "ready":
            assert reason.isprintable()
            assert expected_reason(case) in reason, name
    assert {kind for case in cases.values() for kind in case.types} == REFUSED_TYPES


def expected_reason(case: Case) -> str:
    if any(not kind.startswith("tensor") for kind in case.types):
        return "expected a tensor, got "
    if case.types:
        return "expected elements of one of BOOL, UINT8, UINT16"
    if case.outputs:
        return "golden sample 0: output '"
    return "golden sample 0: the run failed: " if case.inputs else " "


def test_answers_have_onnx_runtimes_bits(
    served: Server, states: dict[str, tuple[str, str]], cases: dict[str, Case]
) -> None:
    ready = {name: case for name, case in cases.items() if states[name][0] == "ready"}
    answers = {name: infer(served, name, *case.inputs) for name, case in ready.items()}
    others = [name for name, answer in answers.items() if answer != list(ready[name].outputs)]
    assert others == []
