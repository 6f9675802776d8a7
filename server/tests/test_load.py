"""The report on a model with several alternatives of devices, by a real server."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from sigmax_server._native import Server, load_runtime
from sigmax_server.config import ServerConfig
from sigmax_server.device import Choice, Cuda, Devices, Group
from sigmax_server.load import load
from sigmax_server.model_spec import Placement
from sigmax_server.repository import Found
from sigmax_server.runtime import find_runtime
from sigmax_server.table import Failed, Served

CPU = (Placement("cpu"),)
GPU = (Placement("cuda:977", 1),)


class Decided(Devices):
    """Has decided already, rightly or not."""

    def __init__(self, *placements: tuple[Placement, ...]) -> None:
        super().__init__("auto", Cuda(find_runtime()))
        self._decided = Choice(placements, "because")

    def place(self, groups: Sequence[Group]) -> Choice:
        return self._decided


@pytest.fixture
def server() -> Iterator[Server]:
    load_runtime(str(find_runtime()))
    server = Server(ServerConfig(grpc_port=0, http_port=0, shards=2))
    yield server
    server.stop()


@pytest.fixture
def found(tmp_path: Path) -> Found:
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xp"
    ]
    nodes = [helper.make_node("Softmax", ["x"], ["p"], axis=-1)]
    graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:])
    opset = helper.make_opsetid("", 18)
    onnx.save(
        helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "model.onnx"
    )
    return Found("model", 1, tmp_path, tmp_path / "model.onnx")


def loaded(server: Server, found: Found, *placements: tuple[Placement, ...]) -> Served | Failed:
    server.declare(found.name, found.version)
    return load(server, found, ServerConfig(), Decided(*placements))


def test_of_one_place_there_is_nothing_to_tell(server: Server, found: Found) -> None:
    outcome = loaded(server, found, CPU)
    assert isinstance(outcome, Served)
    assert (outcome.device, outcome.notes) == ("cpu", ())


def test_the_times_of_every_place_are_told(server: Server, found: Found) -> None:
    outcome = loaded(server, found, (Placement("cpu", 1),), CPU)
    assert isinstance(outcome, Served)
    assert len(outcome.notes) == 2
    for note in outcome.notes:
        assert re.fullmatch(r"cpu: [\d,]+ us for a row, [\d,]+ rows/s in full batches", note)


def test_a_place_that_does_not_work_is_told_with_its_reason(server: Server, found: Found) -> None:
    outcome = loaded(server, found, GPU, CPU)
    assert isinstance(outcome, Served)
    assert outcome.device == "cpu"
    timed, reason = outcome.notes
    assert timed.startswith("cpu: ")
    assert reason.startswith("because; cpu gives ")
    assert "not cuda:977: " in reason


def test_where_no_place_works_the_model_is_not_served(server: Server, found: Found) -> None:
    outcome = loaded(server, found, GPU)
    assert isinstance(outcome, Failed)
    assert "cuda" in outcome.reason.lower()
    assert not server.is_ready()
