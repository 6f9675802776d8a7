"""The seven networks, from their training to every kind of client."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import sigmax
from support.server import Server
from support.wire import Tensor, at_once, infer
from tritonclient.grpc import (  # type: ignore[import-untyped]
    InferenceServerClient,
    InferInput,
)

if TYPE_CHECKING:
    from sigmax_models.declaration import Declaration

pytestmark = pytest.mark.slow

CLASSIFIERS = ("sequential", "mammal", "animal", "digits", "language", "dtmf")
NAMES = ("linear", *CLASSIFIERS)
every_network = pytest.mark.parametrize("asked", NAMES, indirect=True)
every_classifier = pytest.mark.parametrize("asked", CLASSIFIERS, indirect=True)
DTYPES = {"digits": "UINT8", "language": "UINT8", "dtmf": "INT16"}
EXACT = 1e-6
CONCURRENT = 64


@dataclass(frozen=True)
class Asked:
    """A network, the rows it is asked of, and what it must answer."""

    name: str
    input: str
    declaration: "Declaration"
    rows: np.ndarray
    labels: list[str]
    by_torch: np.ndarray
    session: onnxruntime.InferenceSession

    def by_onnx_runtime(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(None, {self.input: rows})[0])


@pytest.fixture
def asked(request: pytest.FixtureRequest, repository: Path) -> Asked:
    # Not before it is needed: PyTorch takes seconds to load.
    from sigmax_models import networks
    from sigmax_models.parity import answer_torch, open_session

    network = networks.get(request.param)
    samples = network.unseen()
    rows = np.stack([sample.row for sample in samples])
    served = network.load(network.weights_path(repository))
    return Asked(
        name=network.name,
        input=network.input,
        declaration=network.declaration,
        rows=rows,
        labels=[str(sample.expected) for sample in samples],
        by_torch=answer_torch(served, {network.input: rows}),
        session=open_session(network.model_path(repository).read_bytes()),
    )


@every_classifier
def test_the_sdk_gets_the_right_labels_and_torchs_probabilities(
    networks_server: Server, asked: Asked
) -> None:
    result = networks_server.client.classify(asked.name, asked.rows)
    assert result.labels == asked.labels
    classes = asked.by_torch.shape[1]
    assert np.abs(result.probabilities[:, -classes:] - asked.by_torch).max() <= EXACT
    assert np.abs(result.probabilities.sum(1) - 1).max() <= EXACT
    one = networks_server.client.classify(asked.name, asked.rows[0])
    assert one.label == asked.labels[0]
    assert np.array_equal(one.probabilities, result[0].probabilities)


@every_classifier
def test_the_asyncio_client_gets_the_same(networks_server: Server, asked: Asked) -> None:
    async def ask() -> Sequence[sigmax.Result]:
        async with sigmax.AsyncClient(networks_server.grpc, timeout=60) as client:
            return await asyncio.gather(*(client.classify(asked.name, r) for r in asked.rows))

    results = asyncio.run(ask())
    assert [result.label for result in results] == asked.labels
    together = networks_server.client.classify(asked.name, asked.rows)
    for alone, row in zip(results, together, strict=True):
        assert np.array_equal(alone.probabilities, row.probabilities)


@every_network
def test_tritons_client_gets_what_onnx_runtime_answers(
    networks_server: Server, asked: Asked
) -> None:
    given = InferInput(asked.input, list(asked.rows.shape), DTYPES.get(asked.name, "FP32"))
    given.set_data_from_numpy(asked.rows)
    with InferenceServerClient(networks_server.grpc) as client:
        reply = client.infer(asked.name, [given], request_id="7")
        answer = reply.as_numpy(asked.declaration.output)
    assert (reply.get_response().id, reply.get_response().model_version) == ("7", "1")
    expected = asked.by_onnx_runtime(asked.rows)
    assert (answer.dtype, answer.tobytes()) == (expected.dtype, expected.tobytes())


@every_network
def test_tritons_client_reads_the_description(networks_server: Server, asked: Asked) -> None:
    with InferenceServerClient(networks_server.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(asked.name)
        assert client.is_model_ready(asked.name, "1")
        metadata = client.get_model_metadata(asked.name)
    assert (metadata.name, list(metadata.versions)) == (asked.name, ["1"])
    assert metadata.platform == "onnxruntime_onnx"
    [given], [made] = metadata.inputs, metadata.outputs
    assert (given.name, given.datatype) == (asked.input, DTYPES.get(asked.name, "FP32"))
    assert list(given.shape) == [-1, *asked.rows.shape[1:]]
    assert (made.name, made.datatype) == (asked.declaration.output, "FP32")
    assert list(made.shape) == [-1, *asked.by_torch.shape[1:]]


@every_network
def test_the_sdk_reads_the_description(networks_server: Server, asked: Asked) -> None:
    model = networks_server.client.model(asked.name)
    declared = asked.declaration
    assert (model.name, model.version, model.task) == (asked.name, "1", declared.task)
    assert model.labels == tuple(declared.labels)
    assert model.thresholds == ((0.5,) if asked.name == "mammal" else ())
    assert [spec.meaning for spec in model.inputs] == [declared.meanings[asked.input]]
    assert (model.device, model.max_batch_size, model.rows_independent) == ("cpu", 1024, True)
    assert [(v.version, v.state, v.reason) for v in model.versions] == [("1", "ready", "")]


def test_all_seven_are_listed_with_their_tasks(networks_server: Server) -> None:
    tasks = {model.name: model.task for model in networks_server.client.models()}
    assert list(tasks) == sorted(NAMES)
    others = dict.fromkeys(CLASSIFIERS, "multiclass")
    assert tasks == others | {"linear": None, "mammal": "binary"}


@every_network
def test_rows_get_the_same_bits_alone_and_in_any_batch(
    networks_server: Server, asked: Asked
) -> None:
    rows = np.resize(asked.rows, (64, *asked.rows.shape[1:]))
    expected = asked.by_onnx_runtime(rows)
    for size in (1, 2, 7, 64):
        for start in range(0, 64 - size + 1, size):
            tensor = Tensor.of(asked.input, rows[start : start + size], rows.dtype)
            [answer] = infer(networks_server, asked.name, tensor)
            assert answer.raw == expected[start : start + size].tobytes()


@every_network
def test_64_requests_at_once_get_what_onnx_runtime_answers(
    networks_server: Server, asked: Asked
) -> None:
    chance = np.random.default_rng(0)
    shape = (2 * CONCURRENT, *asked.rows.shape[1:])
    if asked.rows.dtype == np.float32:
        rows = chance.normal(scale=10, size=shape).astype(np.float32)
    else:
        limits = np.iinfo(asked.rows.dtype)
        rows = chance.integers(limits.min, limits.max, shape, asked.rows.dtype, endpoint=True)
    pairs = np.split(rows, CONCURRENT)
    given = [Tensor.of(asked.input, pair, pair.dtype) for pair in pairs]
    answers = at_once(networks_server, asked.name, given)
    assert [answer.raw for answer in answers] == [
        asked.by_onnx_runtime(pair).tobytes() for pair in pairs
    ]


def test_linear_is_w_x_plus_b_by_hand(networks_server: Server) -> None:
    x = [0.3914, 0.9542, -0.2356]
    [scores] = infer(networks_server, "linear", Tensor.of("input", [x]))
    by_hand = [
        -0.4499 * 0.3914 + 0.4996 * 0.9542 + 0.1127 * -0.2356 + 0.0310,
        -0.0365 * 0.3914 - 0.1955 * 0.9542 + 0.04227 * -0.2356 + 0.15327,
    ]
    assert scores.shape == (1, 2)
    assert scores.array[0] == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize(
    ("animal", "traits", "kind"),
    [
        ("a lynx", [22, 100, 38, 3, 70, 15], "mammal"),
        ("an eagle-owl", [2.5, 67, 40.5, 3, 34, 20], "bird"),
        ("a caiman", [30, 180, 30, 25, 80, 35], "reptile"),
    ],
)
def test_an_animal_is_a_bird_a_mammal_or_a_reptile(
    networks_server: Server, animal: str, traits: list[float], kind: str
) -> None:
    result = networks_server.client.classify("animal", traits)
    assert result.label == kind, animal
    by_index = sorted(result.classes, key=lambda scored: scored.index)
    assert [scored.label for scored in by_index] == ["bird", "mammal", "reptile"]
    is_mammal = networks_server.client.classify("mammal", traits)
    assert is_mammal.label == ("mammal" if kind == "mammal" else "not-mammal")
