"""What people give to an export at first: it becomes a file and a note, or an error of one line."""

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from sigmax_models import Declaration, ExportError, ExportNotice, export
from sigmax_models.parity import EXACT, answer_onnx, open_session
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from torch import nn

SCORES = Declaration(output="scores")
SOFTMAX = Declaration(task="multiclass", activation="softmax")


def inputs(path: Path) -> list[tuple[str, str]]:
    session = open_session(path.read_bytes())
    return [(value.name, value.type) for value in session.get_inputs()]


def weights(path: Path) -> set[int]:
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer}


class Pair(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left - 2 * right


def test_rows_of_float64_are_converted_with_a_notice_for_the_line_of_the_caller(
    tmp_path: Path,
) -> None:
    rows = {"x": np.ones((4, 3))}
    with pytest.warns(ExportNotice, match="'x' are float64, and were converted to float32") as told:
        written = export(nn.Linear(3, 2), tmp_path / "model.onnx", rows, SCORES)
    assert [warning.filename for warning in told] == [__file__]
    assert inputs(written.path) == [("x", "tensor(float)")]


def test_labels_and_thresholds_may_be_arrays(tmp_path: Path) -> None:
    labels: Any = np.array(["no", "yes"])
    thresholds: Any = np.array([0.3], np.float32)
    declared = Declaration(
        task="binary", labels=labels, thresholds=thresholds, activation="sigmoid"
    )
    rows = np.ones((4, 3), np.float32)
    written = export(nn.Linear(3, 1), tmp_path / "model.onnx", rows, declared)
    entries = {entry.key: entry.value for entry in onnx.load(written.path).metadata_props}
    assert entries["sigmax.labels"] == '["no", "yes"]'
    assert json.loads(entries["sigmax.thresholds"]) == pytest.approx([0.3])


def test_a_declaration_of_another_type_is_named(tmp_path: Path) -> None:
    declared: Any
    for declared in ("multiclass", {"kind": "multiclass"}):
        with pytest.raises(ExportError, match="expected a Declaration"):
            export(nn.Linear(3, 2), tmp_path / "model.onnx", np.ones((4, 3)), declared)


def test_a_module_of_float64_keeps_its_rows(tmp_path: Path) -> None:
    rows = {"x": np.ones((4, 3))}
    written = export(nn.Linear(3, 2).double(), tmp_path / "model.onnx", rows, SCORES)
    assert inputs(written.path) == [("x", "tensor(double)")]


def test_a_module_of_half_precision_is_exported_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 50)).half()
    rows = np.random.default_rng(0).normal(size=(64, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = export(module, tmp_path / "model.onnx", {"x": rows}, SOFTMAX)
    assert inputs(written.path) == [("x", "tensor(float16)")]
    assert weights(written.path) == {onnx.TensorProto.FLOAT16}
    answer = answer_onnx(open_session(written.path.read_bytes()), {"x": rows.astype(np.float16)})
    with torch.no_grad():
        expected = module.float()(torch.from_numpy(rows).float()).softmax(1).numpy()
    assert answer.dtype == np.float16
    assert answer == pytest.approx(expected, abs=1e-3)


def test_a_module_of_half_precision_says_which_rows_it_wants(tmp_path: Path) -> None:
    rows = {"x": np.ones((4, 3), np.float32)}
    with pytest.raises(ExportError, match=r"expected rows of float16, .*, but 'x' is float32$"):
        export(nn.Linear(3, 2).half(), tmp_path / "model.onnx", rows, SCORES)


def test_weights_of_bfloat16_become_float32(tmp_path: Path) -> None:
    module = nn.Linear(3, 2).bfloat16()
    with pytest.warns(ExportNotice) as told:
        written = export(
            module, tmp_path / "model.onnx", {"x": torch.ones(4, 3).bfloat16()}, SCORES
        )
    assert [str(warning.message) for warning in told] == [
        "the module's weights are bfloat16; the file holds them as float32",
        "rows of 'x' are bfloat16, and were converted to float32",
    ]
    assert inputs(written.path) == [("x", "tensor(float)")]
    assert weights(written.path) == {onnx.TensorProto.FLOAT}
    assert module.weight.dtype is torch.bfloat16
    answer = answer_onnx(
        open_session(written.path.read_bytes()), {"x": np.ones((1, 3), np.float32)}
    )
    expected = (module.weight.float().sum(1) + module.bias.float()).tolist()
    assert answer[0] == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(
    ("module", "example", "names"),
    [
        (nn.Linear(3, 2), np.ones((4, 3), np.float32), ["input"]),
        (nn.Linear(3, 2), torch.ones(4, 3, requires_grad=True), ["input"]),
        (nn.Linear(3, 2), [[1.0, 2.0, 3.0]], ["input"]),
        (nn.Linear(3, 2), np.ones((4, 3), ">f4"), ["input"]),
        (nn.Linear(3, 2), np.ones((4, 3), np.float32)[::-1], ["input"]),
        (Pair(), (np.ones((4, 3), np.float32), torch.zeros(4, 3)), ["left", "right"]),
    ],
)
def test_arrays_without_names_get_those_of_forward(
    module: nn.Module, example: Any, names: list[str], tmp_path: Path
) -> None:
    written = export(module, tmp_path / "model.onnx", example, SCORES)
    assert inputs(written.path) == [(name, "tensor(float)") for name in names]


def test_inputs_that_forward_names_are_passed_by_name(tmp_path: Path) -> None:
    rows = {"right": np.ones((4, 3), np.float32), "left": np.zeros((4, 3), np.float32)}
    written = export(Pair(), tmp_path / "model.onnx", rows, SCORES)
    assert [name for name, _ in inputs(written.path)] == ["right", "left"]
    session = open_session(written.path.read_bytes())
    assert answer_onnx(session, {name: array[:1] for name, array in rows.items()}).tolist() == [
        [-2.0] * 3
    ]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"x": np.array([["a", "b", "c"]])}, "expected numbers in 'x'"),
        ((np.ones((4, 3)), np.ones((4, 3))), "forward takes 1 inputs, got 2 arrays"),
        ({"x": np.ones((4, 5), np.float32)}, "the module does not run with the example: .*shape"),
        (
            {"x": np.ones((4, 3), np.int64)},
            "expected rows of float32, as the weights are, but 'x' is int64",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(example: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(nn.Linear(3, 2), tmp_path / "model.onnx", example, SCORES)
    assert list(tmp_path.iterdir()) == []


def silently(make: Callable[[], object]) -> object:
    """What torch makes, without what it says of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear, "got the class Linear: make a module of it"),
        (lambda: nn.Linear(3, 2).state_dict(), "an object of type OrderedDict|load a state_dict"),
        (lambda: LogisticRegression(), r"convert it with skl2onnx \(with zipmap=False\)"),
        (lambda: nn.LazyLinear(2), "'weight' of a lazy layer has no values yet: call the module"),
        (
            lambda: torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
                nn.Sequential(nn.Linear(3, 2)), {nn.Linear}
            ),
            "'0' is a quantized Linear, .*: give the module as it was before",
        ),
        (
            lambda: torch.jit.script(nn.Linear(3, 2)),
            "it is a ScriptModule, .*: give the Python module",
        ),
        (
            lambda: torch.jit.trace(  # type: ignore[no-untyped-call]
                nn.Linear(3, 2), torch.ones(2, 3)
            ),
            "it is a ScriptModule, .*: give the Python module",
        ),
        (
            lambda: torch.export.export(nn.Linear(3, 2), (torch.ones(2, 3),)),
            r"an ExportedProgram: give what its method module\(\) returns",
        ),
    ],
    ids=["class", "weights", "sklearn", "lazy", "quantized", "script", "trace", "program"],
)
def test_what_is_no_module_for_torch_is_refused_with_the_way_out(
    make: Callable[[], Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(silently(make), tmp_path / "model.onnx", {"x": np.ones((4, 3), np.float32)}, SCORES)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_module_is_exported_as_the_one_inside(
    wrap: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    module = nn.Linear(3, 2)
    rows = np.ones((4, 3), np.float32)
    written = export(wrap(module), tmp_path / "model.onnx", {"x": rows}, SCORES)
    answer = answer_onnx(open_session(written.path.read_bytes()), {"x": rows})
    assert answer == pytest.approx(module(torch.from_numpy(rows)).detach().numpy(), abs=EXACT)


FAILING = """
import numpy as np
from torch import nn
from sigmax_models import Declaration, ExportError, export

class Branches(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1

for verbose in (False, True):
    try:
        export(Branches(), "model.onnx", np.ones((4, 3), "f4"), Declaration(), verbose=verbose)
    except ExportError as error:
        print("refused:", error, flush=True)
"""


@pytest.mark.slow
def test_a_failure_is_one_line_and_verbose_shows_what_torch_says(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAILING],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    quiet, *verbose, again = ran.stdout.splitlines()
    assert quiet.startswith("refused: torch cannot export this module: Could not guard on data")
    assert quiet.endswith("(verbose=True or --verbose shows all)")
    assert again == quiet
    assert any("symbolic_shapes" in line for line in verbose)
    assert any("[torch.onnx]" in line for line in verbose)
