"""What several files say of the images is the same; what an image does, `make docker` checks."""

import difflib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
CPU, GPU = ((ROOT / "docker" / name).read_text() for name in ("Dockerfile", "Dockerfile.gpu"))
# Where the image for GPUs may differ: what it is called, and what lies in it besides.
OWN = re.compile(r"^#|extra [cg]pu|description=|cuda|nvidia|NVIDIA|onnxruntime", re.MULTILINE)


def test_the_image_for_gpus_differs_only_by_what_gpus_need() -> None:
    lines = difflib.ndiff(CPU.splitlines(), GPU.splitlines())
    differing = [line[2:] for line in lines if line[0] in "+-" and line[2:]]
    assert differing
    assert [line for line in differing if not OWN.search(line)] == []


def test_uv_is_the_makefiles() -> None:
    [version] = re.findall(r"^UV_VERSION := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"uv==(\S+)", CPU + GPU) == [version] * 2
