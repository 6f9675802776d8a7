"""One version stands in several files; a release writes it into all that are written by hand."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CARGO = "server/Cargo.toml"
SCRIPT = ".ci/version.py"
LOCKS = ("client/rust/Cargo.lock", "server/Cargo.lock", "uv.lock")
# The files that repeat it, each with a place where it stands.
REPEATS = {
    "client/cpp/CMakeLists.txt": "project(sigmax VERSION {} ",
    "client/java/README.md": "<version>{}</version>",
    "client/java/pom.xml": "<artifactId>sigmax-client</artifactId>\n  <version>{}</version>",
    "client/python/pyproject.toml": '\nversion = "{}"\n',
    "client/rust/Cargo.lock": 'name = "sigmax"\nversion = "{}"\n',
    "client/rust/Cargo.toml": '\nversion = "{}"\n',
    "client/typescript/package-lock.json": '      "version": "{}",\n      "license": "Apache-2.0"',
    "client/typescript/package.json": '\n  "version": "{}"',
    "models/pyproject.toml": '\nversion = "{}"\n',
    "server/Cargo.lock": 'name = "sigmax-core"\nversion = "{}"\n',
    "uv.lock": 'name = "sigmax"\nversion = "{}"\n',
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that have it, copied."""
    for name in (SCRIPT, CARGO, *REPEATS, "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def said(tree: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit code of the script, and what it complains of."""
    command = [sys.executable, str(tree / SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stderr.splitlines()


def test_the_version_is_the_same_everywhere() -> None:
    assert said(ROOT) == (0, [])


@pytest.mark.parametrize(("name", "place"), REPEATS.items(), ids=REPEATS)
def test_a_file_that_has_another_is_named(tree: Path, name: str, place: str) -> None:
    [version] = re.findall(r'(?m)^version = "(.+)"', (tree / CARGO).read_text())
    text = (tree / name).read_text()
    assert place.format(version) in text
    (tree / name).write_text(text.replace(place.format(version), place.format("99.0.0"), 1))
    code, [fault] = said(tree)
    assert code == 1
    assert fault.startswith(f"version: {name}")
    assert fault.endswith("as in server/Cargo.toml, got 99.0.0")


def test_a_release_is_written_and_leaves_the_lock_files_to_their_tools(tree: Path) -> None:
    assert said(tree, "--set", "99.0.0") == (0, [])
    code, faults = said(tree)
    assert code == 1
    assert {fault.split(": ")[1].split(",")[0] for fault in faults} == {*LOCKS}
    changes = (tree / "CHANGELOG.md").read_text()
    assert re.search(r"## \[Unreleased\]\n\n## \[99\.0\.0\] - \d{4}-\d\d-\d\d\n\n##", changes)


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3rc1"])
def test_a_release_has_three_numbers(tree: Path, version: str) -> None:
    code, [fault] = said(tree, "--set", version)
    assert code == 1
    assert fault == f"version: expected three numbers, such as 1.2.3, got {version!r}"
    assert (tree / CARGO).read_text() == (ROOT / CARGO).read_text()


def test_a_tag_is_the_version(tree: Path) -> None:
    code, faults = said(tree, "--tag", "v99.0.0")
    assert code == 1
    assert any(fault.endswith("got v99.0.0") for fault in faults)


def test_what_has_changed_is_written_down(tree: Path) -> None:
    (tree / "CHANGELOG.md").write_text("# Changelog\n")
    code, [fault] = said(tree)
    assert code == 1
    assert "CHANGELOG.md: expected a section" in fault
