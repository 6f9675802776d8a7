import io
import json
import pickle
import re
import subprocess
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sigmax_models.cli import export_main, train_main
from sigmax_models.golden import golden_folders, read_tensor
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

def fails():
    raise RuntimeError("no such table\\nin the database")

class Lazy(nn.LazyLinear):
    def __init__(self):
        super().__init__(2)

lazy = Lazy()

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.kind = nn.Linear(3, 2)

    def forward(self, x):
        return {"kind": self.kind(x), "alive": x[:, :1]}

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 2)

    def forward(self, ids):
        return self.embed(ids).max(1).values
"""

CLASSIFY = ["--input-shape", "x:float32:3", "--task", "multiclass", "--activation", "softmax"]


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with networks of a user's own, and the current one."""
    (tmp_path / "zoo.py").write_text(ZOO)
    (tmp_path / "broken.py").write_text("undefined\n")
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
        (["zoo:fails", "--weights", "net.pt"], "cannot be called without arguments: no such table"),
        (["broken:Net"], "broken:Net: NameError: name 'undefined' is not defined"),
        (["zoo:Missing"], "has no attribute 'Missing'"),
        (["nowhere:Net"], "there is no Python module 'nowhere'"),
        (["zoo"], "expected MODULE:OBJECT, such as zoo:Animal, got 'zoo'"),
        (["zoo:Net", "--weights", "other.pt"], "size mismatch"),
        (["zoo:Net", "--weights", "missing.pt"], "export: missing.pt: No such file or directory"),
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
        ["--input-shape", "x:float32:2-3"],
        ["--labels", '"a,b'],
        ["--output", "animal/1/model.onnx"],
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


CHECKPOINTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], list[str]]] = {
    "of DDP": (
        lambda state: {f"module.{name}": values for name, values in state.items()},
        ["the prefix 'module.' of all names was left out"],
    ),
    "of torch.compile": (
        lambda state: {f"_orig_mod.{name}": values for name, values in state.items()},
        ["the prefix '_orig_mod.' of all names was left out"],
    ),
    "in model": (
        lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}}},
        ["the weights are those of its entry 'model'"],
    ),
    "of Lightning": (
        lambda state: {
            "state_dict": {f"net.{name}": values for name, values in state.items()},
            "epoch": 3,
        },
        [
            "the weights are those of its entry 'state_dict'",
            "the prefix 'net.' of all names was left out",
        ],
    ),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_weights_are_found_in_a_checkpoint_and_a_note_says_so(
    kind: str, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack, notes = CHECKPOINTS[kind]
    state = save_weights(zoo / "net.pt")
    torch.save(pack(state), zoo / "last.ckpt")
    assert export_main(["zoo:Net", "--weights", "last.ckpt", "-o", "model.onnx", *CLASSIFY]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"sigmax export: note: last.ckpt: {note}" for note in notes
    ]
    answer = answer_onnx(
        open_session(Path("model.onnx").read_bytes()), {"x": np.zeros((1, 3), "f4")}
    )
    assert answer[0] == pytest.approx(torch.softmax(state["bias"], 0).numpy(), abs=1e-6)


def test_a_lazy_module_is_exported_once_it_has_weights(zoo: Path) -> None:
    save_weights(zoo / "net.pt")
    assert export_main(["zoo:Lazy", "--weights", "net.pt", "-o", "model.onnx", *CLASSIFY]) == 0


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (nn.Linear(3, 2), "bad.pt: holds a torch.nn.modules.linear.Linear beside weights, and"),
        (
            {"model": nn.Linear(3, 2).state_dict(), "options": Namespace(rate=1)},
            "bad.pt: holds a argparse.Namespace beside weights, and reading that runs code from",
        ),
        ({"epoch": 3, "loss": 0.5}, "'state_dict' or 'model', got a dict of 'epoch', 'loss'"),
        ({0: torch.ones(3)}, "'state_dict' or 'model', got a dict of 0"),
        ([torch.ones(3)], "bad.pt: expected a state_dict, got a list"),
        ({"module.weight": torch.ones(2, 3)}, "Missing key(s) in state_dict"),
    ],
)
def test_a_file_without_usable_weights_says_what_to_save(
    saved: object, message: str, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(saved, zoo / "bad.pt")
    assert export_main(["zoo:Net", "--weights", "bad.pt", "-o", "model.onnx", *CLASSIFY]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("raw", [b"", b"hello", pickle.dumps(nn.Linear(3, 2)), b"PK\3\4damaged"])
def test_a_file_that_torch_has_not_saved_is_named(
    raw: bytes, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / "bad.pt").write_bytes(raw)
    assert export_main(["zoo:Net", "--weights", "bad.pt", "-o", "model.onnx", *CLASSIFY]) == 1
    assert capsys.readouterr().err == (
        "sigmax export: bad.pt: expected a state_dict saved with torch.save(module.state_dict(), "
        "FILE), got a file of another format, or a damaged one\n"
    )


def test_a_file_of_torchscript_says_what_to_save(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(3, 2)).save(zoo / "bad.pt")  # type: ignore[no-untyped-call]
    assert export_main(["zoo:Net", "--weights", "bad.pt", "-o", "model.onnx", *CLASSIFY]) == 1
    said = capsys.readouterr().err
    assert "torch.save(torch.jit.load(FILE).state_dict(), OTHER)" in said
    assert said.count("\n") == 1


def test_a_lazy_module_without_weights_says_what_to_do(
    zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_main(["zoo:lazy", "-o", "model.onnx", *CLASSIFY]) == 1
    said = capsys.readouterr().err
    assert "'weight' of a lazy layer has no values yet: call the module with some rows" in said
    assert said.count("\n") == 1


def test_an_output_is_chosen_and_named(zoo: Path) -> None:
    torch.save({"kind.weight": torch.ones(2, 3), "kind.bias": torch.zeros(2)}, zoo / "two.pt")
    for choice in ("kind", "0"):
        arguments = ["zoo:Two", "--weights", "two.pt", "-o", "two.onnx", "--output", choice]
        assert export_main([*arguments, *CLASSIFY, "--output-name", "p_kind"]) == 0
        (output,) = open_session((zoo / "two.onnx").read_bytes()).get_outputs()
        assert (output.name, output.shape) == ("p_kind", ["batch", 2])


HEADS = [
    {"name": "kind", "task": "multiclass", "activation": "softmax", "labels": ["a", "b"]},
    {
        "name": "living",
        "output": "alive",
        "output_name": "p_living",
        "task": "binary",
        "activation": "sigmoid",
        "thresholds": [0.3],
    },
]
SHAPE = ["--input-shape", "x:float32:3"]


def test_a_file_of_heads_declares_several_tasks(zoo: Path) -> None:
    torch.save({"kind.weight": torch.ones(2, 3), "kind.bias": torch.zeros(2)}, zoo / "two.pt")
    (zoo / "heads.json").write_text(json.dumps(HEADS))
    arguments = ["zoo:Two", "--weights", "two.pt", "-o", "two.onnx", "--heads", "heads.json"]
    assert export_main([*arguments, *SHAPE, "--meaning", "x=traits"]) == 0
    entries = open_session((zoo / "two.onnx").read_bytes()).get_modelmeta().custom_metadata_map
    assert json.loads(entries["sigmax.heads"]) == [
        {"name": "kind", "output": "kind", "task": "multiclass", "labels": ["a", "b"]},
        {"name": "living", "output": "p_living", "task": "binary", "thresholds": [0.3]},
    ]
    assert json.loads(entries["sigmax.inputs"]) == {"x": "traits"}


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        ("{}", [], "heads.json: expected a list of objects, one for each head"),
        ("[", [], "heads.json: expected JSON"),
        (
            '[{"name": "a", "task": "binary", "thresholds": 0.3}]',
            [],
            "heads.json: head 'a': thresholds: expected a list, got 0.3",
        ),
        ('[{"name": "a", "task": "binary", "output": 1.5}]', [], "has none called 1.5, but 0 "),
        ('[{"task": "binary"}]', [], "expected a name of its own for each head, got None"),
        ('[{"name": "a", "lables": []}]', [], "head 'a': expected name, output, .*'lables'"),
        ('[{"name": "a", "task": "b"}]', [], "head 'a': task: expected binary, multiclass"),
        ("[]", ["--task", "binary"], "--task: expected it in the file of --heads instead"),
        ("[]", ["--labels-file", "x"], "--labels-file: expected it in the file of --heads"),
    ],
)
def test_a_file_of_heads_that_is_wrong_is_named(
    heads: str, options: list[str], message: str, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / "heads.json").write_text(heads)
    arguments = ["zoo:fixed", "-o", "model.onnx", *SHAPE, "--heads", "heads.json", *options]
    assert export_main(arguments) == 1
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.count("\n") == 1


def test_a_word_in_a_shape_is_a_free_axis(zoo: Path) -> None:
    torch.save({"embed.weight": torch.rand(10, 2)}, zoo / "tokens.pt")
    arguments = ["zoo:Tokens", "--weights", "tokens.pt", "-o", "tokens.onnx"]
    for rows in ([], ["--samples", "ids.npy"]):
        np.save(zoo / "ids.npy", np.arange(10, dtype=np.int32).reshape(1, 10))
        assert export_main([*arguments, "--input-shape", "ids:int64:length", *rows]) == 0
        (ids,) = open_session((zoo / "tokens.onnx").read_bytes()).get_inputs()
        assert (ids.name, ids.type, ids.shape) == ("ids", "tensor(int64)", ["batch", "length"])
        sizes = [
            read_tensor(folder / "input_0.pb")[1].shape[1]
            for folder in golden_folders(zoo / "tokens.onnx")
        ]
        assert sizes == ([10, 5] if rows else [32, 16])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --input-shape or --samples, got neither"),
        (["--samples", "zoo.py"], "zoo.py: expected an .npz file with an array per input"),
        (["--samples", "cut.npz"], "cut.npz: expected an .npz file with an array per input"),
        (["--samples", "rows.npz", "--input-shape", "y:float32:3"], "expected arrays called ['y']"),
        (
            ["--samples", "rows.npz", "--input-shape", "x:float32:4"],
            "expected 'x' of shape [rows, 4], as --input-shape says, got [2, 3]",
        ),
        (
            ["--samples", "rows.npz", "--input-shape", "x:int64:3"],
            "expected values of 'x' that int64 can hold, as --input-shape says, got 0.5",
        ),
    ],
)
def test_rows_that_are_missing_or_differ_from_the_shape_are_named(
    arguments: list[str], message: str, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(zoo / "rows.npz", x=np.full((2, 3), 0.5, np.float32))
    (zoo / "cut.npz").write_bytes((zoo / "rows.npz").read_bytes()[:100])
    assert export_main(["zoo:fixed", "-o", "model.onnx", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_rows_of_float64_are_noted(zoo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(zoo / "rows.npz", x=np.ones((2, 3)))
    assert export_main(["zoo:fixed", "-o", "model.onnx", "--samples", "rows.npz"]) == 0
    assert capsys.readouterr().err == (
        "sigmax export: note: rows of 'x' are float64, and were converted to float32\n"
    )


LABEL_FILES = {
    "labels.txt": "\ufefftench, Tinca tinca\r\ngoldfish\r\n\r\n",
    "labels.json": '["tench, Tinca tinca", "goldfish"]',
}


@pytest.mark.parametrize(
    "option",
    [
        *(["--labels-file", name] for name in LABEL_FILES),
        ["--labels", '"tench, Tinca tinca", goldfish'],
    ],
)
def test_labels_may_have_commas(option: list[str], zoo: Path) -> None:
    for name, text in LABEL_FILES.items():
        (zoo / name).write_bytes(text.encode())
    assert export_main(["zoo:fixed", "-o", "model.onnx", *CLASSIFY, *option]) == 0
    entries = open_session((zoo / "model.onnx").read_bytes()).get_modelmeta().custom_metadata_map
    assert json.loads(entries["sigmax.labels"]) == ["tench, Tinca tinca", "goldfish"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.txt", b"a\n\nb\n", "labels.txt: expected a name in line 2, got an empty line"),
        ("labels.txt", b"a\n\xff\n", "labels.txt: expected text in UTF-8"),
        ("labels.json", b'{"0": "a"}', "labels.json: expected a list of names, got a dict"),
        ("labels.json", b"a,b", "labels.json: expected JSON"),
        ("labels.txt", b"a\nb\nc\n", "labels: the network has 2 classes, got 3 labels"),
    ],
)
def test_a_file_of_labels_that_is_wrong_is_named(
    name: str, content: bytes, message: str, zoo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / name).write_bytes(content)
    assert export_main(["zoo:fixed", "-o", "model.onnx", *CLASSIFY, "--labels-file", name]) == 1
    assert message in capsys.readouterr().err


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
        answer = linear.NETWORK.load(tmp_path / "linear/weights.pt")([torch.from_numpy(sample.row)])
    assert answer.tolist() == pytest.approx(sample.expected, abs=5e-6)


def test_train_names_the_networks_where_one_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        train_main(["fish", "--repository", str(tmp_path)])
    assert stopped.value.code == 2
    assert "no network is named 'fish'; there are linear, seq" in capsys.readouterr().err


def test_train_names_the_extra_that_is_missing_before_it_trains(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "from sigmax_models.cli import train_main\n"
        f"sys.exit(train_main(['--repository', {str(tmp_path)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        "sigmax train: the network 'sequential' needs sklearn, which is not installed: "
        'pip install "sigmax[examples]"\n'
    )
    assert list(tmp_path.iterdir()) == []


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
