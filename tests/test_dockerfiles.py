"""Several files agree on the images; `make docker` checks the images themselves."""

import ast
import difflib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CPU, GPU = ((ROOT / "docker" / name).read_text() for name in ("Dockerfile", "Dockerfile.gpu"))
# Where the image for GPUs may differ: what it is called, and what lies in it besides.
OWN = re.compile(r"^#|extra [cg]pu|description=|cuda|nvidia|NVIDIA|onnxruntime", re.MULTILINE)

# Of the standard library's modules those that need a library of the system's: its Debian package.
LIBRARIES = {
    "bz2": "libbz2-1.0",
    "ctypes": "libffi8",
    "curses": "libncursesw6",
    "dbm": "libdb5.3",
    "lzma": "liblzma5",
    "readline": "libreadline8",
    "sqlite3": "libsqlite3-0",
    "tkinter": "libtk8.6",
    "uuid": "libuuid1",
    "xml": "libexpat1",
    "zlib": "zlib1g",
}


def test_the_image_for_gpus_differs_only_by_what_gpus_need() -> None:
    lines = difflib.ndiff(CPU.splitlines(), GPU.splitlines())
    differing = [line[2:] for line in lines if line[0] in "+-" and line[2:]]
    assert differing
    assert [line for line in differing if not OWN.search(line)] == []


def test_the_images_have_the_libraries_of_the_modules_that_the_server_imports() -> None:
    sources = (ROOT / "server/python/sigmax_server").rglob("*.py")
    imported = {name for file in sources for name in imports(file)}
    needed = {LIBRARIES[name] for name in imported & set(LIBRARIES)}
    assert "libffi8" in needed
    for dockerfile in (CPU, GPU):
        assert [package for package in needed if package not in dockerfile.split()] == []


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_uv_is_the_makefiles() -> None:
    [version] = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"uv==(\S+)", CPU + GPU) == [version] * 2
