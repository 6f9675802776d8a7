"""The source distributions hold all that they are built from, and can be installed."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support.uv import find_uv

ROOT = Path(__file__).parents[2]
LICENSE = (ROOT / "LICENSE").read_bytes()
# The folders of this tree that a distribution is built from, with their names in it.
FOLDERS = {
    "sigmax": {"client/python/sigmax": "sigmax"},
    "sigmax-models": {"models/src": "src"},
    "sigmax-server": {
        "proto/grpc": "core/proto/grpc",
        "proto/inference": "core/proto/inference",
        "proto/sigmax": "core/proto/sigmax",
        "server/core/src": "core/src",
        "server/native/src": "native/src",
        "server/python": "python",
    },
}
# The server is built as its tests in Rust are, beside them: what both need is compiled once.
AS_IN_TESTS = {
    "CARGO_INCREMENTAL": "0",
    "CARGO_TARGET_DIR": str(ROOT / "server/target"),
    "MATURIN_PEP517_ARGS": "--profile dev",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three, as `make wheels` builds them."""
    folder = tmp_path_factory.mktemp("built")
    for name in FOLDERS:
        command = [find_uv(), "build", "--quiet", "--sdist", "--package", name]
        subprocess.run([*command, "--out-dir", folder], cwd=ROOT, check=True, timeout=120)
    return folder


def archive(built: Path, name: str) -> Path:
    [found] = built.glob(f"{name.replace('-', '_')}-*.tar.gz")
    return found


@pytest.mark.parametrize("name", FOLDERS)
def test_every_file_of_the_sources_and_the_license_are_in(built: Path, name: str) -> None:
    sources = {
        inside / path.relative_to(ROOT / folder): path.read_bytes()
        for folder, inside in FOLDERS[name].items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".so" and path.parent.name != "__pycache__"
    }
    assert len(sources) > 10
    with tarfile.open(archive(built, name)) as tar:
        read = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
        held = {Path(*Path(path).parts[1:]): file.read() for path, file in read.items() if file}
    assert held[Path("LICENSE")] == LICENSE
    assert {path: held.get(path) for path in sources} == sources


@pytest.fixture
def unpacked(built: Path) -> Path:
    """The three in a folder that is always the same, as Cargo keeps what it builds by folder."""
    folder = ROOT / "build/unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    for name in FOLDERS:
        # Cargo goes by the time of a file, and all of an archive's have the same.
        command = ["tar", "--extract", "--touch", "--strip-components=1", "--file"]
        (folder / name).mkdir(parents=True)
        subprocess.run([*command, archive(built, name)], cwd=folder / name, check=True)
    return folder


@pytest.mark.slow
def test_all_three_install_in_a_clean_environment(unpacked: Path, tmp_path: Path) -> None:
    uv, folder = find_uv(), tmp_path / "environment"
    for name in FOLDERS:
        build = [uv, "build", "--quiet", "--wheel", "--out-dir", str(tmp_path)]
        subprocess.run(
            [*build, unpacked / name], env=os.environ | AS_IN_TESTS, check=True, timeout=900
        )
    locked = [uv, "export", "--quiet", "--locked", "--package=sigmax", "--extra=server"]
    locked += ["--extra=models", "--no-dev", "--no-emit-workspace"]
    install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(folder)]
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    requirements = subprocess.run(locked, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run([*install, "--requirement", "-"], input=requirements, check=True, timeout=500)
    subprocess.run([*install, *tmp_path.glob("*.whl")], check=True)

    def said(*command: str) -> str:
        command = (str(folder / "bin" / command[0]), *command[1:])
        done = subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True)
        return done.stdout.decode()

    assert said("sigmax", "--version").startswith("sigmax ")
    assert "--grpc-port" in said("sigmax", "serve", "--help")
    imports = "import sigmax, sigmax_models, sigmax_server, sigmax_server._native as native"
    assert str(folder) in said("python", "-c", f"{imports}; print(native.__file__)")
    licenses = sorted(folder.glob("lib/*/site-packages/sigmax*.dist-info/licenses/LICENSE"))
    assert [file.read_bytes() for file in licenses] == [LICENSE] * 3
