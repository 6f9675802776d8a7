"""A model that cannot be served is named with the reason, and does not affect others."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import sigmax
from support import files
from support.server import Serve, Server
from support.wire import SERVICES, Tensor, ask, refusal, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = Tensor.of("x", np.zeros((1, 5)))
EVEN = np.full((1, 5), 0.2, np.float32)


@pytest.fixture
def repository_with_broken_models(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    good = files.save(files.softmax(), folder, "good")
    files.save_golden(good, np.zeros((1, 5), np.float32), EVEN)
    wrong = files.save(files.softmax(), folder, "wrong")
    files.save_golden(wrong, np.zeros((1, 5), np.float32), np.eye(1, 5, dtype=np.float32))
    files.save(files.unknown_operator(), folder, "operator")
    (folder / "garbage/1").mkdir(parents=True)
    (folder / "garbage/1/model.onnx").write_bytes(b"no model at all" * 100)
    mislabelled = files.softmax()
    for entry in mislabelled.metadata_props:
        if entry.key == "sigmax.labels":
            entry.value = '["a", "b"]'
    files.save(mislabelled, folder, "mislabelled")
    return folder


BROKEN = {
    "wrong": "golden sample",
    "operator": "Frobnicate",
    "garbage": "garbage/1/model.onnx",
    "mislabelled": "expected 5, because sigmax.task is multiclass",
}


def inference_ready(server: Server) -> bool:
    reply = triton(server).ServerReady(service_pb2.ServerReadyRequest(), timeout=60)
    return bool(reply.ready)


def model_ready(server: Server, name: str) -> bool:
    reply = triton(server).ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=60)
    return bool(reply.ready)


def test_each_is_named_with_its_reason_and_the_others_are_served(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    listed = {model.name: model.versions[0] for model in server.client.models()}
    assert listed.keys() == {"good", *BROKEN}
    assert (listed["good"].state, listed["good"].reason) == ("ready", "")
    for name, reason in BROKEN.items():
        assert listed[name].state == "unavailable"
        assert reason in listed[name].reason
        assert listed[name].reason in server.line(name)
        for service in SERVICES:
            found = refusal(partial(ask, service, server, name, ROW))
            assert (found.code, found.reason) == ("UNAVAILABLE", "MODEL_NOT_READY")
            assert listed[name].reason in found.message
    assert server.client.classify("good", [0.0] * 5).label == "a"


def test_a_wrong_golden_sample_is_named_with_both_values(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    assert "output 'p', row 0: expected 1, got 0.2" in server.line("wrong")


def test_strict_readiness_needs_every_model(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models)
    assert server.printed.splitlines()[-1].startswith("not ready: ")
    assert server.get("/readyz") == (503, "not ready\n")
    assert server.get("/healthz")[0] == 200
    assert not inference_ready(server)
    assert model_ready(server, "good")
    assert not model_ready(server, "wrong")
    server.client.wait_until_ready(model="good")
    timeout, said = 0.1, "no answer"
    while "no answer" in said:  # it may pass before there is one
        timeout *= 2
        with pytest.raises(sigmax.DeadlineExceeded) as raised:
            server.client.wait_until_ready(timeout=timeout)
        said = str(raised.value)
    assert said.endswith("last seen: NOT_SERVING")
    assert server.stop() == 0


def test_without_strict_readiness_one_model_is_enough(
    serve: Serve, repository_with_broken_models: Path
) -> None:
    server = serve(repository_with_broken_models, "--strict-readiness=false")
    assert server.printed.splitlines()[-1].startswith("ready: ")
    assert server.get("/readyz") == (200, "ready\n")
    assert inference_ready(server)
    assert not model_ready(server, "wrong")
    server.client.wait_until_ready()


def test_exit_on_error_makes_it_fatal(serve: Serve, repository_with_broken_models: Path) -> None:
    with pytest.raises(AssertionError, match="it never started") as raised:
        serve(repository_with_broken_models, "--exit-on-error")
    for name in BROKEN:
        assert f"error: {name} cannot be served: " in str(raised.value)


def stating(**stated: str) -> Callable[[Path], object]:
    """A softmax over five scores whose file states this: `labels="[1]"` is sigmax.labels."""

    def build(folder: Path) -> None:
        model = files.softmax()
        told = {f"sigmax.{key}": value for key, value in stated.items()}
        kept = {each.key: each.value for each in model.metadata_props}
        onnx.helper.set_model_props(model, {**kept, **told})
        files.save(model, folder.parent, folder.name)

    return build


def configured(text: str, **others: bytes) -> Callable[[Path], object]:
    """A softmax over five scores with this config.pbtxt and label file."""

    def build(folder: Path) -> None:
        files.configured(folder.parent, folder.name, files.softmax(), text)
        for name, content in others.items():
            (folder / f"{name}.txt").write_bytes(content)

    return build


def content(data: bytes) -> Callable[[Path], object]:
    def build(folder: Path) -> None:
        (folder / "1").mkdir(parents=True)
        (folder / "1/model.onnx").write_bytes(data)

    return build


def instead(path: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """A softmax over five scores that has something else at this path."""

    def build(folder: Path) -> None:
        file = files.save(files.softmax(), folder.parent, folder.name)
        files.save_golden(file, np.zeros((1, 5), np.float32), EVEN)
        (folder / "config.pbtxt").write_text(LABELLED)
        (folder / "labels.txt").write_text("a\nb\nc\nd\ne\n")
        (folder / path).unlink()
        make(folder / path)

    return build


def changed(change: Callable[[Any], object]) -> Callable[[Path], object]:
    def build(folder: Path) -> None:
        model = files.linear()
        change(model)
        files.save(model, folder.parent, folder.name)

    return build


def of_version(number: int) -> Callable[[Any], object]:
    return lambda model: setattr(model, "ir_version", number)


def cut_short(model: Any) -> None:
    model.graph.initializer[0].raw_data = b"123"


LABELLED = 'output [ { name: "p" label_filename: "labels.txt" } ]'
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab\nsize 12345\n"
LONG = json.dumps(["a" * 10_000_000, *"bcde"])
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "deep": (stating(labels="[" * 100_000), "sigmax.labels: expected JSON that is not nested"),
    "deep-inputs": (stating(inputs='{"x":' * 100_000), "sigmax.inputs: expected JSON that is not"),
    "digits": (stating(tolerance="1" + "0" * 400), "expected a finite tolerance of 0 or more"),
    "more-digits": (stating(tolerance="1" * 5000), "sigmax.tolerance: expected a number"),
    "thresholds": (
        stating(task="multilabel", thresholds=f"[{'9' * 400}, 1, 1, 1, 1]"),
        "expected thresholds in [0, 1], got inf",
    ),
    "surrogate": (
        stating(labels='["\\ud800", "b", "c", "d", "e"]'),
        "sigmax.labels: expected text, got a lone surrogate",
    ),
    "surrogate-inputs": (stating(inputs='{"x": "\\udfff"}'), "sigmax.inputs: expected text"),
    "nul": (
        configured(r'output [ { name: "p" label_filename: "a\000b" } ]'),
        r"label_filename: 'a\x00b'",
    ),
    "deep-config": (configured("input { " * 100_000), "config.pbtxt"),
    "long-name": (configured(f'default_model_filename: "{"n" * 300}"'), "File name too long"),
    "no-file": (configured('default_model_filename: "other.onnx"'), "1/other.onnx"),
    "no-version": (configured("version_policy { specific { versions: 7 } }"), "7/model.onnx"),
    "no-text": (configured(LABELLED, labels=b"\xff\xfe"), "'labels.txt': expected UTF-8 text, got"),
    "large-labels": (configured(LABELLED, labels=bytes(17 << 20)), "at most 16777216 bytes"),
    "large-config": (configured("#" * (2 << 20)), "config.pbtxt: expected at most 1048576 bytes"),
    "long": (stating(labels=LONG), "labels of at most 1000 characters, at 0, got 'aaaa"),
    "long-json": (stating(labels=LONG[:-1]), "sigmax.labels: expected a JSON list of strings"),
    "pointer": (content(POINTER), "it is a pointer of Git LFS, and not the file itself: fetch it"),
    "page": (content(b"<!DOCTYPE html><html></html>"), "it is a web page"),
    "empty": (content(b""), "it is empty"),
    "folder": (instead("1/model.onnx", Path.mkdir), "model.onnx: expected a file, got a folder"),
    "version": (changed(of_version(99)), "model.onnx: Unsupported model IR version: 99, max"),
    "raw": (changed(cut_short), "Initializer 'weight': raw_data size (3 bytes) does not match"),
    "pipe": (instead("1/model.onnx", os.mkfifo), "model.onnx: expected a file, got a named pipe"),
    "config-pipe": (instead("config.pbtxt", os.mkfifo), "config.pbtxt: expected a file, got a nam"),
    "labels-pipe": (instead("labels.txt", os.mkfifo), "'labels.txt': expected a file, got a named"),
    "golden-pipe": (
        instead("1/test_data_set_0/input_0.pb", os.mkfifo),
        "input_0.pb: expected a file, got a named pipe",
    ),
    "golden-device": (
        instead("1/test_data_set_0/output_0.pb", lambda path: path.symlink_to("/dev/zero")),
        "output_0.pb: expected a file, got a device",
    ),
    "device": (
        instead("1/model.onnx", lambda path: path.symlink_to("/dev/zero")),
        "model.onnx: expected a file, got a device",
    ),
    "circle": (
        instead("1/model.onnx", lambda path: path.symlink_to(path)),
        "Too many levels of symbolic links",
    ),
    "engines": (
        configured("instance_group { count: 1000000 }"),
        "instance_group.count: expected at most 256 engines of a model, got 1000000",
    ),
    "priorities": (
        configured("dynamic_batching { priority_levels: 4294967295 }"),
        "dynamic_batching.priority_levels: expected at most 256, got 4294967295",
    ),
}


def test_whatever_is_wrong_with_a_model_costs_that_model_alone(
    serve: Serve, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    for name, (build, _) in ODD.items():
        build(repository / name)
    files.save(files.softmax(), repository, "good")
    files.save(files.softmax(), repository, "for\nged \x1b[2J")
    files.save(files.softmax(), repository, os.fsdecode(b"no\xfftext"))
    server = serve(repository)
    reasons = {model.name: model.versions[0].reason for model in server.client.models()}
    odd = {r"for\nged \x1b[2J", r"no\udcfftext"}
    assert reasons.keys() == {"good", *ODD, *odd}
    for name, (_, expected) in ODD.items():
        assert expected in reasons[name], name
        assert reasons[name] in server.line(name), name
    for name in odd:
        assert "expected a printable name" in reasons[name]
    for reason in reasons.values():
        assert len(reason) <= 400
        assert reason.isprintable()
        assert "onnxruntime" not in reason
    assert server.printed.count("\n") == 4 + len(reasons)
    assert server.client.classify("good", [0.0] * 5).label == "a"
    assert server.stop() == 0


def as_anybody(folder: Path) -> Path:
    """The python of an environment whose sigmax may not read what its owner closed to all."""
    without = "-dac_override,-dac_read_search"
    command = f"setpriv --bounding-set={without} --inh-caps={without}"
    if subprocess.run([*command.split(), "true"], check=False).returncode:
        pytest.skip("the superuser reads everything, and cannot do without here")
    wrapper = folder / "sigmax"
    sigmax_of_this = Path(sys.executable).with_name("sigmax")
    wrapper.write_text(f'#!/bin/sh\nexec {command} {sigmax_of_this} "$@"\n')
    wrapper.chmod(0o755)
    return folder / "python"


def test_a_folder_that_may_not_be_read_costs_that_model_alone(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("closed", "closed-version", "good"):
        files.save(files.softmax(), repository, name)
    closed = [repository / "closed", repository / "closed-version/1"]
    for folder in closed:
        folder.chmod(0)
    python = as_anybody(tmp_path) if os.geteuid() == 0 else Path(sys.executable)
    server = serve(repository, python=python)
    reasons = {model.name: model.versions[0].reason for model in server.client.models()}
    assert server.client.classify("good", [0.0] * 5).label == "a"
    for folder in closed:
        folder.chmod(0o755)
    assert "Permission denied" in reasons["closed"]
    assert "Permission denied" in reasons["closed-version"]


def test_names_in_a_model_file_forge_no_line(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "x\nready: gRPC 127.0.0.1:1, HTTP 127.0.0.1:2; after 1 ms\x1b[31m\x9b2J\u202e"
    model = files.softmax()
    model.graph.node[0].input[0] = model.graph.input[0].name = forged
    model.graph.node[0].output[0] = model.graph.output[0].name = f"p{forged}"
    for entry in model.metadata_props:
        if entry.key == "sigmax.labels":
            entry.value = json.dumps([forged, *"bcde"])
    files.save(model, tmp_path, "m")
    server = serve(tmp_path)
    assert server.printed.count("ready: gRPC") == 2
    assert len([line for line in server.printed.splitlines() if line.startswith("ready:")]) == 1
    assert all(line.isprintable() for line in server.printed.split("\n"))
    assert server.client.classify("m", [0.0] * 5).label == forged
    with pytest.raises(sigmax.InvalidInput):
        server.client.classify("m", {forged: [0.0] * 4})
    (tmp_path / "rows").write_text("[0, 0, 0, 0, 0]")
    from sigmax._cli import main

    asked = [["models"], ["model", "m"], ["classify", "m", "--json", str(tmp_path / "rows")]]
    for command in asked:
        for output in ("table", "json"):
            assert main([*command, "--address", server.grpc, "--output", output]) == 0
            printed = capsys.readouterr().out
            assert all(line.isprintable() for line in printed.split("\n"))
            assert not any(line.startswith("ready:") for line in printed.split("\n"))
            if output == "json":
                json.loads(printed)
    assert main(["classify", forged, "--json", str(tmp_path / "rows"), "--address", server.grpc])
    assert capsys.readouterr().err.removesuffix("\n").isprintable()
    assert server.stop() == 0
    assert all(line.isprintable() for line in server.log().split("\n"))
