"""`classify_many` of both clients against the real server."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest
import sigmax
from support.server import Server

Answer = sigmax.Classification | sigmax.SigmaxError

BAD = [0, 17, 18, 255, 299]
ROWS = np.random.default_rng(0).integers(0, 10, size=(300, 4))
ROWS[BAD, 3] = 10  # no row of the embedding's table


def of_threads(server: Server) -> list[Answer]:
    return list(server.client.classify_many("embedding", iter(ROWS), batch_size=64))


def of_asyncio(server: Server) -> list[Answer]:
    async def rows() -> AsyncIterator[sigmax.Inputs]:
        for row in ROWS:
            yield row

    async def ask() -> list[Answer]:
        async with sigmax.AsyncClient(server.grpc) as client:
            return [each async for each in client.classify_many("embedding", rows(), batch_size=64)]

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [of_threads, of_asyncio])
def test_each_row_has_its_own_answer_or_error(server: Server, ask: object) -> None:
    assert callable(ask)
    answers = ask(server)
    assert len(answers) == len(ROWS)
    for place, answer in enumerate(answers):
        if place in BAD:
            assert isinstance(answer, sigmax.InvalidInput)
            assert answer.reason == "VALUES_REFUSED"
        else:
            alone = server.client.classify("embedding", ROWS[place])
            assert answer.label == alone.label
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_a_model_without_a_task_is_told_at_once(server: Server) -> None:
    with pytest.raises(sigmax.NotSupported):
        next(server.client.classify_many("division", [{"x": [6, 7], "by": [1, 1]}] * 9))
