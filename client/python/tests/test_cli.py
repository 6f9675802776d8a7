"""The command `sigmax`: its output, its exit codes and the modules it loads."""

import io
import json
import os
import subprocess
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sigmax import _cli

SIGMAX = str(Path(sys.executable).with_name("sigmax"))


def test_models(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("models", "--output", "table") == 0
    assert capsys.readouterr().out.splitlines() == [
        "model   version  state        task        reason",
        "animal  2        ready        multiclass",
        "animal  1        unavailable  multiclass  its file is broken",
    ]
    assert ask("models") == 0  # no terminal: a line of JSON a model
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["versions"][1]["reason"] == "its file is broken"


def test_model(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("model", "animal", "--output", "table") == 0
    shown = capsys.readouterr().out
    assert "input             x FP32 [-1, 3] three scores\n" in shown
    assert "labels            bird, mammal, reptile\n" in shown
    assert ask("model", "animal") == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["shape"] == [-1, 3]


@pytest.mark.parametrize(
    "text",
    [
        "[[0.25, 0.5, 0.25], [0, 0, 1]]",
        "[0.25, 0.5, 0.25]\n[0, 0, 1]\n",
        '{"x": [0.25, 0.5, 0.25]}\n\n{"x":\n [[0, 0, 1]]}',
    ],
)
def test_classify(ask: Any, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("classify", "animal", "--json", "-", "--output", "table", stdin=text) == 0
    assert capsys.readouterr().out.splitlines() == [
        "row  decided  most probable",
        "0    mammal   mammal 0.5000, bird 0.2500, reptile 0.2500",
        "1    reptile  reptile 1.0000, bird 0.0000, mammal 0.0000",
    ]
    assert ask("classify", "animal", "--json", "-", "--top-k", "1", stdin=text) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {
        "model": "animal",
        "version": "2",
        "decision": [{"index": 2, "label": "reptile", "probability": 1.0}],
        "classes": [{"index": 2, "label": "reptile", "probability": 1.0}],
    }


def test_classify_reads_a_file(
    ask: Any, tmp_path: Path, peer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    file.write_text("[1, 0, 0]", encoding="utf-8")
    options = ["--threshold", "0.25", "--model-version", "2"]
    assert ask("classify", "animal", "--json", str(file), *options) == 0
    assert "bird" in capsys.readouterr().out
    assert (peer.calls[-1].threshold, peer.calls[-1].model_version) == (0.25, "2")


@pytest.mark.parametrize(
    ("stdin", "text"),
    [
        ("[1, 2]", "expected shape [-1, 3], or [3] for one row; got [2]"),
        ("", "-: expected JSON, got nothing"),
        ("[1, 0, 0]\n[1,", "-: expected JSON: Expecting value: line 2 column 4"),
        ('["a", 1, 2]', "expected numbers"),
    ],
)
def test_errors_are_one_line(
    ask: Any, stdin: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("classify", "animal", "--json", "-", stdin=stdin) == 1
    message = capsys.readouterr().err
    assert message.startswith("sigmax: ")
    assert message.count("\n") == 1
    assert text in message


def test_a_file_that_is_not_there(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("classify", "animal", "--json", "no/such.json") == 1
    assert (
        capsys.readouterr().err == "sigmax: cannot read no/such.json: No such file or directory\n"
    )


def test_what_a_server_says_cannot_steer_the_terminal(
    ask: Any, peer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    peer.described.labels[0] = "\x1b[2Jbird\n"
    assert ask("model", "animal", "--output", "table") == 0
    assert r"\x1b[2Jbird\n, mammal" in capsys.readouterr().out
    assert ask("model", "pl\nant") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["fly"], ["classify", "animal"], ["models", "--top"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: sigmax" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        _cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"sigmax {version('sigmax')}\n"


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [
        ("serve", "sigmax_server", "server"),
        ("doctor", "sigmax_server", "server"),
        ("train", "sigmax_models", "examples"),
        ("export", "sigmax_models", "models"),
    ],
)
def test_a_missing_distribution_is_named(
    command: str,
    package: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Without(package), *sys.meta_path])
    assert _cli.main([command, "--help"]) == 1
    assert capsys.readouterr().err == (
        f'sigmax: `sigmax {command}` is not installed: pip install "sigmax[{extra}]"\n'
    )


class Without(MetaPathFinder):
    """Leaves one package out of what is installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname == self._package:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def test_a_broken_installation_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("sigmax_server")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "sigmax_server", package)
    monkeypatch.delitem(sys.modules, "sigmax_server.cli", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"sigmax_server\.cli"):
        _cli.main(["serve"])


def test_other_distributions_get_their_arguments_and_give_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []
    cli = ModuleType("sigmax_models.cli")

    def train_main(arguments: list[str]) -> int:
        seen.append(arguments)
        return 7

    monkeypatch.setattr(cli, "train_main", train_main, raising=False)
    monkeypatch.setitem(sys.modules, "sigmax_models", ModuleType("sigmax_models"))
    monkeypatch.setitem(sys.modules, "sigmax_models.cli", cli)
    assert _cli.main(["train", "--all", "--output", "x"]) == 7
    assert seen == [["--all", "--output", "x"]]


class Interrupted(io.BytesIO):
    """Somebody presses Ctrl-C while it is read."""

    def read(self, _: int | None = -1) -> bytes:
        raise KeyboardInterrupt


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    assert _cli.main(["classify", "animal", "--json", "-"]) == 130


def test_a_reader_that_leaves_is_no_error(peer: Any) -> None:
    code = "import sys; from sigmax._cli import main; sys.stdin.read(); sys.exit(main())"
    command = [sys.executable, "-c", code, "models", "--address", peer.address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def after(streams: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command after a shell has turned its streams somewhere."""
    shell = ["sh", "-c", f'exec "$@" {streams}', "sh", SIGMAX, *arguments]
    return subprocess.run(shell, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("streams", "reason"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "standard output is closed"),
    ],
)
def test_output_that_cannot_be_written_is_an_error(peer: Any, streams: str, reason: str) -> None:
    for arguments in (["models"], ["model", "animal", "--output", "table"]):
        done = after(streams, *arguments, "--address", peer.address)
        assert (done.returncode, done.stderr) == (1, f"sigmax: cannot write: {reason}\n")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-"])
def test_an_error_that_nobody_is_told_is_an_error(peer: Any, streams: str) -> None:
    done = after(streams, "model", "unicorn", "--address", peer.address)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    done = after(streams, "models", "--address", peer.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "animal" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["serve", "--help"]])
def test_help_whose_reader_leaves_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [SIGMAX, *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_serve_starts_light() -> None:
    """Whether or not the server is installed, the way to it loads neither gRPC nor NumPy."""
    code = """
import sys
from sigmax._cli import main
try:
    main(["serve", "--help"])
except SystemExit:
    pass
print(sorted({"grpc", "numpy", "google", "torch", "onnx", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
