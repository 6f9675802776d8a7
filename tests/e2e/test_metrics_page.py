"""docs/metrics.md says of every metric what /metrics says, and of no other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import files
from support.certificates import Authority
from support.server import Server
from support.wire import (
    Tensor,
    classify,
    classify_request,
    infer,
    infer_request,
    refusal,
    triton,
    typed,
)

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ZERO = Tensor.of("x", [[0.0]])
ROW = Tensor.of("x", np.zeros((1, 5)))
ONE_TURN = Tensor.of("x", [1], np.int64)


@dataclass(frozen=True)
class Family:
    """A metric: its type, and the names of its labels."""

    kind: str
    labels: frozenset[str]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What /metrics says after answers of a light and a heavy model, errors and a refusal."""
    folder = tmp_path_factory.mktemp("metrics")
    repository = folder / "repository"
    files.save(files.softmax(), repository, "light")
    # It may turn for long, so it has workers.
    files.save(files.turns(), repository, "heavy")
    policy = "default_queue_policy { max_queue_size: 1 }"
    files.configured(repository, "gated", files.sigmoid(), files.gated(2, policy))
    authority = Authority(folder / "certificates")
    flags = ("--shards=1", *authority.issue().flags)
    with Server(folder / "log", repository, *flags, authority=authority.path) as server:
        classify(server, "light", ROW)
        infer(server, "heavy", ONE_TURN)
        assert refusal(lambda: infer(server, "light", ZERO)).code == "INVALID_ARGUMENT"
        assert refusal(lambda: infer(server, "nobody", ROW)).code == "NOT_FOUND"
        waiting = triton(server).ModelInfer.future(infer_request("gated", ZERO), timeout=60)
        server.until_queued(1, "gated")
        full = classify_request("gated", ZERO)
        assert refusal(lambda: typed(server).Classify(full, timeout=60)).reason == "QUEUE_FULL"
        waiting.cancel()
        yield server.get("/metrics")[1] + of_access(folder)


def of_access(folder: Path) -> str:
    """What /metrics says besides where clients are asked who they are."""
    (folder / "tokens").write_text("alice: 0123456789abcdef\n")
    flags = (f"--token-file={folder / 'tokens'}", f"--audit-log={folder / 'audit'}")
    with Server(folder / "guarded", folder / "repository", *flags) as server:
        families = re.split(r"(?m)^(?=# HELP)", server.get("/metrics")[1])
    own = ("sigmax_unauthenticated_", "sigmax_permission_", "sigmax_audit_")
    return "".join(each for each in families if each.startswith(tuple(f"# HELP {n}" for n in own)))


@pytest.fixture(scope="module")
def served(scraped: str) -> dict[str, Family]:
    """Every family by its name in the text, as its comments and its samples have it."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", scraped, re.MULTILINE))
    labels: dict[str, frozenset[str]] = {}
    for family in text_string_to_metric_families(scraped):
        # The parser takes the ending away, which is part of the name in the text.
        name = family.name + ("_total" if family.type == "counter" else "")
        # A bucket has its bound besides the labels of its histogram.
        found = {frozenset(sample.labels) - {"le"} for sample in family.samples}
        assert len(found) == 1, f"{name}: expected samples of one set of labels, got {found}"
        [labels[name]] = found
    assert set(labels) == set(kinds), "every family has samples here"
    return {name: Family(kind, labels[name]) for name, kind in kinds.items()}


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under this heading of the page, without its first two lines."""
    _, _, section = PAGE.read_text().partition(f"\n## {heading}\n")
    section, _, _ = section.partition("\n## ")
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_has_every_metric_and_no_other(served: dict[str, Family]) -> None:
    written = [name for cell, *_ in rows("Every metric") for name in names(cell)]
    assert set(written) == set(served)
    assert len(written) == len(served)


def test_types_and_labels_are_as_the_page_says(served: dict[str, Family]) -> None:
    written = {
        name: Family(kind, frozenset(names(labels)))
        for cell, kind, labels, *_ in rows("Every metric")
        for name in names(cell)
    }
    assert {name: family for name, family in written.items() if served.get(name) != family} == {}


def test_every_metric_has_a_unit_and_says_what_to_do() -> None:
    for row in rows("Every metric"):
        name, _, _, unit, says, moves = row
        assert unit, row
        assert says.endswith("."), row
        assert moves.endswith("."), row
        assert ("_seconds" in name) == (unit == "seconds"), row
        assert ("_bytes" in name) == (unit == "bytes"), row


def test_every_metric_has_help(scraped: str, served: dict[str, Family]) -> None:
    told = re.findall(r"^# HELP (\S+) \S.*\.$", scraped, re.MULTILINE)
    assert sorted(told) == sorted(served)


def test_the_page_has_every_reason_of_a_refusal(scraped: str) -> None:
    found = set(re.findall(r'^sigmax_refused_total\{.*reason="(\w+)"\}', scraped, re.MULTILINE))
    assert sorted(names(reason) for reason, *_ in rows("Reasons of a refusal")) == sorted(
        [reason] for reason in found
    )


def test_the_page_has_every_reason_of_a_failed_handshake(scraped: str) -> None:
    pattern = r'^sigmax_tls_handshakes_failed_total\{reason="(\w+)"\}'
    found = re.findall(pattern, scraped, re.MULTILINE)
    written = [names(reason) for reason, *_ in rows("Reasons of a failed handshake")]
    assert sorted(written) == sorted([reason] for reason in found)
