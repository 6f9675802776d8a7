import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sigmax_models.cli import export_main, train_main
from sigmax_models.networks import linear
from sigmax_models.parity import answer_onnx, open_session
from sigmax_models.progress import bar
from torch import nn

ZOO = """
import torch
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)

random = Net()
fixed = Net()
with torch.no_grad():
    fixed.weight.fill_(0.25)
    fixed.bias.fill_(0.5)
number = 7

def needs(size):
    return nn.Linear(size, size)
"""

CLASSIFY = ["--input-shape", "x:float32:3", "--task", "multiclass", "--activation", "softmax"]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with networks of a user's own, and the current one."""
    (tmp_path / "zoo.py").write_text(ZOO)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "zoo", raising=False)
    return tmp_path


def save_weights(path: Path) -> dict[str, torch.Tensor]:
    state = nn.Linear(3, 2).state_dict()
    torch.save(state, path)
    return state


def test_export_takes_a_class_and_its_weights(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = save_weights(zoo / "net.pt")
    output = zoo / "models/net/1/model.onnx"
    labels = ["--labels", "cat,dog", "--meaning", "x=three numbers"]
    arguments = ["zoo:Net", "--weights", "net.pt", "-o", str(output), *CLASSIFY, *labels]
    assert export_main(arguments) == 0
    assert str(output) in capsys.readouterr().out
    session = open_session(output.read_bytes())
    row = np.ones((1, 3), np.float32)
    logits = state["weight"].sum(1) + state["bias"]
    expected = torch.softmax(logits, 0).numpy()
    assert answer_onnx(session, {"x": row})[0] == pytest.approx(expected, abs=1e-6)
    entries = session.get_modelmeta().custom_metadata_map
    assert entries["sigmax.labels"] == '["cat", "dog"]'
    assert entries["sigmax.inputs"] == '{"x": "three numbers"}'


def test_export_takes_an_object_that_holds_its_weights_and_real_rows(zoo: Path) -> None:
    np.savez(zoo / "rows.npz", x=np.eye(3, dtype=np.float32))
    arguments = ["zoo:fixed", "-o", "fixed.onnx", "--samples", "rows.npz"]
    assert export_main([*arguments, "--output-name", "scores"]) == 0
    answer = answer_onnx(
        open_session((zoo / "fixed.onnx").read_bytes()), {"x": np.eye(3, dtype=np.float32)}
    )
    assert answer.tolist() == [[0.75, 0.75]] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:Net"], "makes a module with random weights: expected trained ones; give --weights"),
        (["zoo:random"], "other weights each time it is imported, so they are random"),
        (["zoo:number"], "zoo:number: module: expected a torch module, got an object of type int"),
        (["zoo:number", "--weights", "net.pt"], "expected a torch module, got an object of type"),
        (["zoo:needs", "--weights", "net.pt"], "cannot be called without arguments"),
        (["zoo:Missing"], "has no attribute 'Missing'"),
        (["nowhere:Net"], "there is no Python module 'nowhere'"),
        (["zoo"], "expected MODULE:OBJECT, such as zoo:Animal, got 'zoo'"),
        (["zoo:Net", "--weights", "other.pt"], "size mismatch"),
        (["zoo:Net", "--weights", "missing.pt"], "No such file"),
        (["zoo:Net", "--weights", "zoo.py"], "zoo.py: "),
        (["zoo:fixed", "--labels", "a,b,c"], "labels: the network has 2 classes, got 3 labels"),
    ],
)
def test_export_refuses_in_one_line(
    zoo: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    save_weights(zoo / "net.pt")
    torch.save(nn.Linear(5, 2).state_dict(), zoo / "other.pt")
    assert export_main([*arguments, "-o", "model.onnx", *CLASSIFY]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("sigmax export: ")
    assert shown.err.count("\n") == 1
    assert not list(zoo.glob("*model*"))


@pytest.mark.parametrize(
    "option",
    [
        ["--input-shape", "x:float32"],
        ["--input-shape", "x:complicated:3"],
        ["--input-shape", "x:float32:0"],
        ["--thresholds", "half"],
        ["--meaning", "x"],
    ],
)
def test_a_malformed_option_is_shown_with_the_form_expected(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        export_main(["zoo:Net", "-o", "model.onnx", *option])
    assert stopped.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_train_publishes_a_network_and_its_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main(["linear", "linear", "--repository", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    (line,) = shown.out.splitlines()
    assert line.startswith("linear ")
    assert "fixed weights" in line
    assert "the same bits in every batch" in line
    assert (tmp_path / "linear/1/model.onnx").is_file()
    (sample,) = linear.unseen()
    with torch.no_grad():
        answer = linear.NETWORK.load(tmp_path / "linear/weights.pt")(torch.from_numpy(sample.row))
    assert answer.tolist() == pytest.approx(sample.expected, abs=5e-6)


def test_train_names_the_networks_where_one_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_main(["fish", "--repository", str(tmp_path)])
    assert stopped.value.code == 2
    assert "no network is named 'fish'; there are linear, seq" in capsys.readouterr().err


def test_help_is_shown_without_loading_torch() -> None:
    code = (
        "import sys; from sigmax_models.cli import train_main\n"
        "try: train_main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("usage: sigmax train")
    assert ran.stdout.endswith("False\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_erases_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    show = bar("animal")
    show(1, 2)
    assert terminal.getvalue() == f"\ranimal      [{'#' * 15}{' ' * 15}]  50%"
    show(2, 2)
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_no_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    bar("animal")(1, 2)
    assert stream.getvalue() == ""
