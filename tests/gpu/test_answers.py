"""A GPU's answers are the CPU's, in batches of any size and beside any other requests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.reference import GPU_TOLERANCE, Reference
from support.server import Server
from support.wire import at_once, infer

pytestmark = pytest.mark.slow


# Those of linear layers, and those with convolutions, which no simulated GPU has.
NAMES = ("linear", "sequential", "mammal", "animal")
WITH_CONVOLUTIONS = ("digits", "language", "dtmf")
every_network = pytest.mark.parametrize(
    "name", [*NAMES, *(pytest.param(name, marks=pytest.mark.gpu) for name in WITH_CONVOLUTIONS)]
)
# Each side of every bucket: full, padded by one row, and by all but one.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256)


@pytest.fixture(scope="session")
def reference(repository: Path) -> Callable[[str], Reference]:
    return lambda name: Reference(repository / name / "1/model.onnx")


@every_network
def test_it_runs_on_the_gpu(gpu_server: Server, name: str) -> None:
    assert gpu_server.client.model(name).device == "cuda:0"


@every_network
@pytest.mark.parametrize("size", SIZES)
def test_any_number_of_rows_is_answered_as_by_the_cpu(
    gpu_server: Server, reference: Callable[[str], Reference], name: str, size: int
) -> None:
    network = reference(name)
    rows = network.rows(size, seed=size)
    [answer] = infer(gpu_server, name, network.tensor(rows))
    expected = network.answer(rows)
    assert answer.array.shape == expected.shape
    assert np.abs(answer.array - expected).max() <= GPU_TOLERANCE


@every_network
def test_a_small_batch_after_a_large_one_shows_nothing_of_it(
    gpu_server: Server, reference: Callable[[str], Reference], name: str
) -> None:
    """Both fill the same bucket: what the large one left must not reach the small one's rows."""
    network = reference(name)
    for seed in range(20):
        large, small = network.rows(64, seed), network.rows(33, 100 + seed)
        infer(gpu_server, name, network.tensor(large))
        [answer] = infer(gpu_server, name, network.tensor(small))
        assert np.abs(answer.array - network.answer(small)).max() <= GPU_TOLERANCE


@every_network
def test_the_same_request_gets_the_same_bits_again(
    gpu_server: Server, reference: Callable[[str], Reference], name: str
) -> None:
    network = reference(name)
    given = network.tensor(network.rows(24))
    answers = {infer(gpu_server, name, given)[0].raw for _ in range(50)}
    assert len(answers) == 1


@every_network
def test_requests_at_once_get_their_own_answers(
    gpu_server: Server, reference: Callable[[str], Reference], name: str
) -> None:
    network = reference(name)
    parts = [network.rows(1 + number % 5, seed=number) for number in range(200)]
    answers = at_once(gpu_server, name, [network.tensor(part) for part in parts])
    for part, answer in zip(parts, answers, strict=True):
        assert np.abs(answer.array - network.answer(part)).max() <= GPU_TOLERANCE
