"""Models that other libraries made are served, and answer as those libraries do."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sigmax._cli import main
from support.server import Server
from support.uv import make_environment

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[1] / "foreign/python"
ONE = ["logistic", "forest", "boosting", "adaboost", "perceptron", "bayes", "neighbors", "texts"]
ONE += ["calibrated-svm", "one-vs-rest", "pipeline", "two-classes"]
ONE += ["xgboost-three", "xgboost-two", "lightgbm-three", "lightgbm-two"]
MANY = ["many-one-vs-rest", "many-perceptron"]
CONFIG = """
output [ {{ name: "probabilities" label_filename: "labels.txt" }} ]
parameters {{ key: "sigmax.task" value {{ string_value: "{task}" }} }}
parameters {{ key: "sigmax.output" value {{ string_value: "probabilities" }} }}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what classifiers_export.py writes and, in classes.json, prints."""
    folder = tmp_path_factory.mktemp("made")
    environment = tmp_path_factory.mktemp("environments") / "classifiers"
    python = make_environment(PROGRAMS / "classifiers.txt", environment)
    program = [python, PROGRAMS / "classifiers_export.py", folder]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "classes.json").write_text(done.stdout.splitlines()[-1])
    return folder


@pytest.fixture(scope="module")
def served(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves each classifier as NAME, by its config.pbtxt, and a described copy as NAME-copy."""
    repository = tmp_path_factory.mktemp("repository")
    for name, classes in json.loads((made / "classes.json").read_text()).items():
        task = "multilabel" if name in MANY else "multiclass"
        configure(made / f"{name}.onnx", repository / name, task, classes)
        describe(made, name, task, classes, repository / f"{name}-copy/1/model.onnx")
    (repository / "many-neighbors/1").mkdir(parents=True)
    shutil.copy(made / "many-neighbors.onnx", repository / "many-neighbors/1/model.onnx")
    with Server(tmp_path_factory.mktemp("log") / "log", repository, "--shards=1") as server:
        yield server


def configure(file: Path, folder: Path, task: str, classes: list[str]) -> None:
    """Leave the file as it is, and say in config.pbtxt what it does not."""
    (folder / "1").mkdir(parents=True)
    shutil.copy(file, folder / "1/model.onnx")
    (folder / "labels.txt").write_text("\n".join(classes))
    (folder / "config.pbtxt").write_text(CONFIG.format(task=task))


def describe(made: Path, name: str, task: str, classes: list[str], out: Path) -> None:
    """Write a copy that describes itself; the labels are those of the ZipMap, if there is one."""
    default = made / f"{name}.default.onnx"
    given = (
        [default] if default.exists() else [made / f"{name}.onnx", "--labels", ",".join(classes)]
    )
    command = ["describe", *map(str, given), "--task", task, "-o", str(out)]
    assert main(command) == 0


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
