"""Golden samples: inputs with torch's answers, in the layout of the ONNX project's test data."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from sigmax_models.inputs import Rows


def golden_folder(model: Path, number: int) -> Path:
    """Return the folder of a model file's sample.

    Folders beside `model.onnx` are called `test_data_set_0`, as in the ONNX project. Folders beside
    any other `NAME.onnx` are called `NAME_test_data_set_0`, so that such files can share a folder.
    """
    prefix = "" if model.name == "model.onnx" else f"{model.stem}_"
    return model.parent / f"{prefix}test_data_set_{number}"


def golden_folders(model: Path) -> list[Path]:
    """Return the existing folders of a model file's samples, in the order of their numbers."""
    prefix = golden_folder(model, 0).name.removesuffix("0")
    numbers = (
        int(path.name.removeprefix(prefix))
        for path in model.parent.glob("*")
        if path.name.startswith(prefix) and path.name.removeprefix(prefix).isdecimal()
    )
    return [golden_folder(model, number) for number in sorted(numbers)]


def write_golden(folder: Path, inputs: Rows, outputs: Rows) -> None:
    """Write one sample as files of a TensorProto each: `input_0.pb`, `input_1.pb`, `output_0.pb`.

    Args:
        folder: Folder to create.
        inputs: Rows of each input by its name.
        outputs: Answers of each output by its name.
    """
    folder.mkdir()
    for kind, tensors in (("input", inputs), ("output", outputs)):
        for number, (name, rows) in enumerate(tensors.items()):
            tensor = numpy_helper.from_array(rows, name)
            (folder / f"{kind}_{number}.pb").write_bytes(
                tensor.SerializeToString(deterministic=True)
            )


def read_tensor(path: Path) -> tuple[str, np.ndarray]:
    """Read one tensor of a sample: its name and its values."""
    tensor = onnx.TensorProto.FromString(path.read_bytes())
    return tensor.name, numpy_helper.to_array(tensor).copy()
