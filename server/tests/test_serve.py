"""The whole run of `sigmax serve`, as a real process with real files."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import (  # type: ignore[import-untyped]
    service_pb2,
    service_pb2_grpc,
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
STOPPING = (
    "sigmax serve: stopping: what was accepted is answered, for at most {} seconds; "
    "a second signal ends it at once\n"
)

WEIGHTS = np.linspace(-1, 1, 18, dtype=np.float32).reshape(6, 3)


def write(path: Path, nodes: list[onnx.NodeProto], **metadata: str) -> Path:
    """An ONNX file with input traits FP32[-1, 6] and output probabilities FP32[-1, 3]."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("traits", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def classifier(path: Path, *labels: str) -> Path:
    nodes = [
        helper.make_node("MatMul", ["traits", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    stated = {"sigmax.format": "1", "sigmax.task": "multiclass"}
    return write(path, nodes, **stated, **{"sigmax.labels": json.dumps(labels)})


def slow(path: Path) -> Path:
    """A classifier that takes a good part of a second, whatever the batch."""
    side = 300
    mixing = np.random.default_rng(0).normal(0, side**-0.5, (side, side)).astype(np.float32)
    state = helper.make_tensor_value_info("next", TensorProto.FLOAT, [side, side])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["mixed", "mixing"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("mixed", TensorProto.FLOAT, [side, side]),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), state],
        [numpy_helper.from_array(mixing, "mixing")],
    )
    # Softmax takes no notice of what is added to all scores, so the loop changes no answer; it
    # starts from the input, so it cannot be computed ahead.
    nodes = [
        constant("turns", np.array(300)),
        constant("go", np.array(True)),
        constant("sides", np.array([side, side])),
        helper.make_node("ReduceMean", ["traits"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "sides"], ["start"]),
        helper.make_node("Loop", ["turns", "go", "start"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["shift"], keepdims=0),
        helper.make_node("MatMul", ["traits", "weights"], ["scores"]),
        helper.make_node("Add", ["scores", "shift"], ["shifted"]),
        helper.make_node("Softmax", ["shifted"], ["probabilities"], axis=-1),
    ]
    return write(path, nodes)


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def unknown_operator(path: Path) -> Path:
    return write(path, [helper.make_node("Frobnicate", ["traits"], ["probabilities"])])


def garbage(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is no model" * 100)
    return path


def golden(folder: Path, probabilities: list[float]) -> None:
    """A golden sample: the answer to a row of zeros."""
    folder.mkdir()
    for file, array in (
        ("input_0.pb", np.zeros((1, 6), np.float32)),
        ("output_0.pb", np.array([probabilities], np.float32)),
    ):
        name = "traits" if file == "input_0.pb" else "probabilities"
        (folder / file).write_bytes(numpy_helper.from_array(array, name).SerializeToString())


class Run:
    """A real process of the server, by default on free ports."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sigmax_server", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"SIGMAX_GRPC_PORT": "0", "SIGMAX_HTTP_PORT": "0"},
        )

    def started(self) -> str:
        """What it prints until it says whether it is ready; the addresses are known then."""
        assert self.process.stdout
        assert self.process.stderr
        printed = ""
        for line in self.process.stdout:
            printed += line
            if line.startswith(("ready: gRPC ", "not ready: gRPC ")):
                self.grpc, _, rest = line.partition(": gRPC ")[2].partition(", HTTP ")
                self.http = rest.partition(";")[0]
                return printed
        raise AssertionError(f"it never started: {printed}{self.process.stderr.read()}")

    def health(self, service: str) -> int:
        with grpc.insecure_channel(self.grpc) as channel:
            request = health_pb2.HealthCheckRequest(service=service)
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=60)
        return int(reply.status)

    def http_status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{self.http}{path}", timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def metric(self, name: str) -> float:
        """A metric of the only model."""
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=60) as reply:
            lines = reply.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: exit code, the rest of standard output, standard error."""
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, stderr


@pytest.fixture
def run() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*arguments: str | Path) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    yield start
    for each in runs:
        each.process.kill()
        each.process.communicate()


def test_models_that_cannot_be_served_are_named_and_the_others_are_served(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    classifier(tmp_path / "animal/1/model.onnx", "bird", "mammal", "reptile")
    classifier(tmp_path / "mislabelled/1/model.onnx", "bird", "mammal")
    classifier(tmp_path / "wrong/1/model.onnx", "bird", "mammal", "reptile")
    golden(tmp_path / "wrong/1/test_data_set_0", [0.5, 0.25, 0.25])
    garbage(tmp_path / "garbage/1/model.onnx")
    unknown_operator(tmp_path / "operator/1/model.onnx")
    (tmp_path / "empty/1").mkdir(parents=True)
    server = run(tmp_path)
    lines = {line.split()[0]: line for line in server.started().splitlines()}
    assert lines["animal"].split()[1:-3] == [
        *("1", "traits", "FP32[-1,", "6]", "multiclass", "cpu")
    ]
    assert "expected 3, because sigmax.task is multiclass" in lines["mislabelled"]
    assert "there is no file" in lines["empty"]
    assert "Frobnicate" in lines["operator"]
    assert "garbage/1/model.onnx" in lines["garbage"]
    assert "golden sample 0: output 'probabilities', row 0: expected 0.5" in lines["wrong"]
    for name in ("mislabelled", "empty", "operator", "garbage", "wrong"):
        assert lines[name].split()[1:4] == ["1", "not", "served:"]
        assert server.health(name) == NOT_SERVING
    assert lines["not"].endswith("5 of 6 models cannot be served")
    assert server.health("animal") == SERVING
    assert server.health("") == NOT_SERVING
    assert server.http_status("/healthz") == 200
    assert server.http_status("/readyz") == 503


def test_without_strict_readiness_one_served_model_is_enough(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    good = classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile")
    server = run("--strict-readiness=false", good, garbage(tmp_path / "garbage.onnx"))
    assert server.started().splitlines()[-1].startswith("ready: ")
    assert server.health("") == SERVING
    assert server.http_status("/readyz") == 200


def test_golden_samples_that_agree_are_accepted(run: Callable[..., Run], tmp_path: Path) -> None:
    classifier(tmp_path / "animal/1/model.onnx", "bird", "mammal", "reptile")
    golden(tmp_path / "animal/1/test_data_set_0", [1 / 3, 1 / 3, 1 / 3])
    assert run(tmp_path).started().splitlines()[-1].startswith("ready: ")


def test_exit_on_error_ends_the_start(run: Callable[..., Run], tmp_path: Path) -> None:
    good = classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile")
    code, stdout, stderr = run("--exit-on-error", good, garbage(tmp_path / "bad.onnx")).end()
    assert code == 1
    assert "ready: " not in stdout
    assert "sigmax serve: error: bad cannot be served: " in stderr


def test_a_missing_repository_ends_the_start(run: Callable[..., Run], tmp_path: Path) -> None:
    code, stdout, stderr = run(tmp_path / "missing").end()
    assert (code, stdout) == (1, "")
    assert stderr == (
        f"sigmax serve: error: {tmp_path / 'missing'}: expected a repository folder or an .onnx "
        "file, got nothing there\n"
    )


@pytest.mark.parametrize("flag", ["--grpc-port", "--http-port"])
def test_a_port_in_use_is_named(run: Callable[..., Run], tmp_path: Path, flag: str) -> None:
    good = classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, stdout, stderr = run(flag, str(port), good).end()
    assert (code, stdout) == (1, "")
    assert f"127.0.0.1:{port}" in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(
    run: Callable[..., Run], tmp_path: Path, ending: signal.Signals
) -> None:
    server = run(classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile"))
    server.started()
    assert server.health("animal") == SERVING
    server.process.send_signal(ending)
    assert server.end() == (0, "", STOPPING.format(30))


def test_a_signal_while_it_loads_ends_it_cleanly(run: Callable[..., Run], tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        classifier(tmp_path / name / "1/model.onnx", "bird", "mammal", "reptile")
    (tmp_path / "a/config.pbtxt").write_text("optimization { priority: PRIORITY_MAX }")
    server = run(tmp_path)
    assert server.process.stderr
    # The last thing it says before it loads the first model.
    assert "config.pbtxt: without effect: optimization" in server.process.stderr.readline()
    server.process.send_signal(signal.SIGTERM)
    code, stdout, stderr = server.end()
    assert (code, stderr) == (0, STOPPING.format(30))
    assert stdout == "" or stdout.splitlines()[-1].startswith("ready: ")


def in_flight(server: Run, channel: grpc.Channel, requests: int) -> list["grpc.Future[Any]"]:
    """Requests of which the first has been answered; the others are known to the server."""
    grpc.channel_ready_future(channel).result(timeout=60)
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    traits = {"name": "traits", "datatype": "FP32", "shape": [1, 6]}
    request = service_pb2.ModelInferRequest(
        model_name="slow", inputs=[traits], raw_input_contents=[bytes(24)]
    )
    calls = [stub.ModelInfer.future(request, timeout=60) for _ in range(requests)]
    calls[0].result()
    # One may be running.
    while server.metric("sigmax_queued_rows") + server.metric("sigmax_batch_rows_count") < (
        requests - 1
    ):
        assert not all(call.done() for call in calls)
    return calls


def answered(calls: list["grpc.Future[Any]"]) -> int:
    return sum(call.exception() is None for call in calls)


@pytest.mark.slow
def test_what_was_accepted_is_answered_before_the_end(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    server = run("--shards=1", "--max-batch-size=1", slow(tmp_path / "slow.onnx"))
    server.started()
    with grpc.insecure_channel(server.grpc) as channel:
        calls = in_flight(server, channel, 4)
        server.process.send_signal(signal.SIGTERM)
        assert answered(calls) == 4
    assert server.end() == (0, "", STOPPING.format(30))


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once_and_the_loss_is_printed(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    server = run("--shards=1", "--max-batch-size=1", slow(tmp_path / "slow.onnx"))
    server.started()
    with grpc.insecure_channel(server.grpc) as channel:
        calls = in_flight(server, channel, 100)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.stderr
        assert server.process.stderr.readline() == STOPPING.format(30)
        server.process.send_signal(signal.SIGINT)
        code, _, stderr = server.end()
        lost = 100 - answered(calls)
    assert lost > 0
    assert code == 1
    assert stderr == (
        "sigmax serve: ending at once, by a second signal\n"
        f"sigmax serve: error: {lost} accepted requests were not answered\n"
    )


@pytest.mark.slow
def test_the_grace_period_bounds_the_end(run: Callable[..., Run], tmp_path: Path) -> None:
    arguments = ("--shards=1", "--max-batch-size=1", "--grace-seconds=0.01")
    server = run(*arguments, slow(tmp_path / "slow.onnx"))
    server.started()
    with grpc.insecure_channel(server.grpc) as channel:
        calls = in_flight(server, channel, 100)
        server.process.send_signal(signal.SIGTERM)
        code, _, stderr = server.end()
        lost = 100 - answered(calls)
    assert lost > 0
    assert code == 1
    assert stderr == STOPPING.format(0.01) + (
        "sigmax serve: ending, because --grace-seconds, which is 0.01, are over\n"
        f"sigmax serve: error: {lost} accepted requests were not answered\n"
    )


def test_an_address_that_others_reach_is_warned_of(run: Callable[..., Run], tmp_path: Path) -> None:
    good = classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile")
    server = run("--host=0.0.0.0", "--insecure", good)
    server.started()
    server.process.send_signal(signal.SIGTERM)
    code, _, stderr = server.end()
    assert code == 0
    assert stderr.startswith(
        "sigmax serve: warning: --insecure: whoever reaches 0.0.0.0 can ask these models, and "
        "requests can be read on their way\n"
    )


def test_a_named_gpu_that_does_not_work_ends_the_start(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    good = classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile")
    code, stdout, stderr = run("--device=cuda:977", good).end()
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith("sigmax serve: error: cuda:977 cannot be used: ")


def test_auto_without_a_gpu_is_the_cpu_and_says_why(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    server = run(classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile"))
    uses = server.started().splitlines()[0]
    assert uses.startswith("uses: shards ")
    assert uses.endswith("; cpu (auto: the installed ONNX Runtime has no CUDA provider)")


def test_a_model_for_gpus_fails_alone_where_there_is_none(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    for name in ("anywhere", "gpu"):
        classifier(tmp_path / name / "1/model.onnx", "bird", "mammal", "reptile")
    (tmp_path / "gpu/config.pbtxt").write_text("instance_group { kind: KIND_GPU gpus: 977 }")
    server = run(tmp_path)
    lines = {line.split()[0]: line for line in server.started().splitlines()}
    assert " cpu " in lines["anywhere"]
    assert "not served: cuda:977 cannot be used: " in lines["gpu"]
    assert lines["not"].endswith("1 of 2 models cannot be served")
    assert server.health("anywhere") == SERVING
    assert server.health("gpu") == NOT_SERVING


def test_the_running_server_has_imported_nothing_heavy(
    run: Callable[..., Run], tmp_path: Path
) -> None:
    server = run(classifier(tmp_path / "animal.onnx", "bird", "mammal", "reptile"))
    server.started()
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert mapped.count("libonnxruntime.so") > 0
    for library in (
        "onnxruntime_pybind11_state",
        "numpy",
        "grpc",
        "torch",
        "onnx_cpp2py",
        "_ctypes",
    ):
        assert library not in mapped
