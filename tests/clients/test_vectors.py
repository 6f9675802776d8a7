"""The clients of every language send the same requests and read the same answers and errors."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import access, clients
from support.certificates import Authority
from support.server import Server

pytestmark = pytest.mark.slow

# Cases whose every part is changed in turn, so that a client that does not look at it is found out.
CHANGED = ("decisions/multiclass/probabilities", "errors/shapes/too wide")


@pytest.fixture(params=clients.LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    """Each language whose client can be run here."""
    name: str = request.param
    if text := clients.missing(name):
        pytest.skip(text)
    return name


@pytest.fixture(scope="module")
def models_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with clients.served(tmp_path_factory.mktemp("vectors"), "--shards=1") as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the server over TLS."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("tls")
    tokens = access.write_tokens(folder / "tokens", ["client"])
    flags = (*authority.issue().flags, f"--token-file={tokens}", "--shards=1")
    with clients.served(folder, *flags, authority=authority.path) as server:
        yield server


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all cases, and of wrong ones."""
    folder = tmp_path_factory.mktemp("cases") / "vectors"
    shutil.copytree(clients.VECTORS, folder)
    (folder / "wrong.json").write_text(json.dumps({"cases": wrong_cases()}))
    return folder


def wrong_cases() -> list[dict[str, Any]]:
    """Return cases whose answers are not those of a server: each differs in one place."""
    cases = {case["name"]: case for group in clients.cases().values() for case in group}
    answered, refused = (cases[name] for name in CHANGED)
    wrong = [
        {"request": answered["request"], "error": refused["error"]},
        {"request": refused["request"], "answer": answered["answer"]},
    ]
    for case, kind in ((answered, "answer"), (refused, "error")):
        wrong += [{"request": case["request"], kind: each} for each in changed(case[kind])]
    return [{"name": f"wrong/{number}", **case} for number, case in enumerate(wrong)]


def changed(value: Any, key: str = "") -> Iterator[Any]:
    """Give a JSON value again and again, each time with another place changed."""
    match value:
        case dict():
            for name, each in value.items():
                yield from ({**value, name: other} for other in changed(each, name))
        case list():
            yield value[:-1]
            for place, each in enumerate(value):
                for other in changed(each):
                    yield [*value[:place], other, *value[place + 1 :]]
        case int():
            yield value ^ 1
        case str() if key == "data":
            raw = base64.b64decode(value)
            yield base64.b64encode(bytes([raw[0] ^ 1, *raw[1:]])).decode()
        case str():
            # A runner may look these up among the names that it knows.
            yield {"dtype": "FP64", "code": "INTERNAL"}.get(key, f"{value}?")


def check(found: clients.Found, vectors: Path) -> None:
    """Check that every case was asked, and that the right ones and no wrong ones are right."""
    names = {case["name"] for group in clients.cases(vectors).values() for case in group}
    assert found.keys() == names
    assert {name: text for name, text in found.items() if text and name[:6] != "wrong/"} == {}
    assert [name for name, text in found.items() if not text and name[:6] == "wrong/"] == []


def test_every_case_is_answered_and_every_fault_is_found(
    language: str, models_server: Server, vectors: Path
) -> None:
    assert len(wrong_cases()) > 40
    check(clients.ask(language, vectors, models_server), vectors)


def test_every_case_is_answered_over_tls_to_a_client_with_a_token(
    language: str, tls_server: Server, authority: Authority
) -> None:
    found = clients.ask(
        language,
        clients.VECTORS,
        tls_server,
        SIGMAX_CLIENT_TLS_CA=authority.path,
        SIGMAX_CLIENT_TOKEN=access.token("client"),
    )
    check(found, clients.VECTORS)


def git(folder: Path, *arguments: str) -> list[str]:
    """Return the lines that git prints in a folder."""
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def test_generated_code_is_that_of_the_protos(language: str, tmp_path: Path) -> None:
    if not (clients.ROOT / "client" / language / "generate").exists():
        pytest.skip(f"client/{language} has no generated code of its own")
    unknown = ["ls-files", "--others", "--exclude-standard"]
    for name in git(
        clients.ROOT, *unknown, "--cached", f"client/{language}", "proto", ".gitignore"
    ):
        if (clients.ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(clients.ROOT / name, tmp_path / name)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    made = subprocess.run(
        [tmp_path / "client" / language / "generate"],
        env=clients.environment(),
        capture_output=True,
        text=True,
        timeout=clients.PATIENCE,
    )
    assert made.returncode == 0, made.stderr[-4000:]
    assert git(tmp_path, "diff", "--name-only") + git(tmp_path, *unknown) == [], "run `make proto`"
