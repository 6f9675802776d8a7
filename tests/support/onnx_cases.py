"""The test cases of the ONNX project, as models with golden samples."""

import shutil
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.runner import Runner

SHIPPED = Path(onnx.__file__).parent / "backend/test/data"
PROTOS: dict[str | None, Callable[[Any, str], Any]] = {
    "tensor_type": numpy_helper.from_array,
    "sequence_type": numpy_helper.from_list,
    "optional_type": numpy_helper.from_optional,
}


@dataclass(frozen=True)
class Sample:
    """A golden sample that holds tensors only.

    Attributes:
        inputs: Each input by its name; BF16 and narrower types as `ml_dtypes` has them.
        types: The ONNX type of each input by its name.
        outputs: The expected outputs, in the order of the graph.
    """

    inputs: dict[str, np.ndarray]
    types: dict[str, int]
    outputs: list[np.ndarray]


def write_cases(repository: Path) -> None:
    """Write every case as a model of a repository, with its golden samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        assert case.model is not None
        assert case.data_sets is not None
        folder = _folder(repository, case.name)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        for number, (inputs, outputs) in enumerate(case.data_sets):
            sample = folder / f"test_data_set_{number}"
            sample.mkdir()
            _write(sample, "input", inputs, case.model.graph.input)
            _write(sample, "output", outputs, case.model.graph.output)
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for shipped in (SHIPPED / kind).iterdir():
            shutil.copytree(shipped, _folder(repository, shipped.name), dirs_exist_ok=True)
    for shipped in (SHIPPED / "light").glob("*.onnx"):
        folder = _folder(repository, shipped.stem)
        shutil.copy(shipped, folder / "model.onnx")
        sample = folder / "test_data_set_0"
        sample.mkdir()
        graph = onnx.load(shipped).graph
        weights = {weight.name for weight in graph.initializer}
        asked = [each for each in graph.input if each.name not in weights]
        _write(sample, "input", [Runner.generate_dummy_data(each) for each in asked], asked)
        shutil.copy(shipped.with_name(f"{shipped.stem}_output_0.pb"), sample / "output_0.pb")


def read_sample(folder: Path, inputs: list[str]) -> Sample:
    """Read the first golden sample of a model's folder; `inputs` are the names, in their order."""
    protos = [_read(folder / f"input_{number}.pb") for number in range(len(inputs))]
    names = [proto.name or inputs[number] for number, proto in enumerate(protos)]
    outputs = sorted(folder.glob("output_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
    return Sample(
        {name: numpy_helper.to_array(proto) for name, proto in zip(names, protos, strict=True)},
        {name: proto.data_type for name, proto in zip(names, protos, strict=True)},
        [numpy_helper.to_array(_read(path)) for path in outputs],
    )


def _folder(repository: Path, name: str) -> Path:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    return folder


def _write(folder: Path, side: str, values: Iterable[Any], infos: Iterable[ValueInfoProto]) -> None:
    for number, (value, info) in enumerate(zip(values, infos, strict=True)):
        proto = value
        if not isinstance(value, TensorProto):
            proto = PROTOS[info.type.WhichOneof("value")](value, info.name)
        (folder / f"{side}_{number}.pb").write_bytes(proto.SerializeToString())


def _read(path: Path) -> TensorProto:
    proto = TensorProto()
    proto.ParseFromString(path.read_bytes())
    return proto
