"""The models of the measurements: trained where that is quick, random where only size matters.

Each model has a repository of its own, so that a server holds only the models of a regime.
"""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.servers import BUILD, SIGMAX

# Sizes of the layers of a heavy model of about 10 MB, whose runs hold up the loop of a shard.
WIDE = [64, 1024, 1024, 1024, 512, 10]
# Sizes of the layers of `sequential`, for a model that needs no training.
LIGHT = [10, 18, 20, 5]


def repository(name: str) -> Path:
    """Return the repository of this model, which is made first where it is missing."""
    folder = BUILD / "models" / name
    if not file(name).exists():
        if name in MADE:
            save(MADE[name], file(name))
        elif name == "resnet":
            from bench import resnet  # PyTorch takes seconds to load

            resnet.save(file(name))
        else:
            subprocess.run([SIGMAX, "train", name, "--repository", folder], check=True)
    return folder


def file(name: str) -> Path:
    """Return the path of the model's file in its repository."""
    return BUILD / "models" / name / name / "1/model.onnx"


def save(layers: list[int], path: Path) -> None:
    """Write a network of layers of these sizes, with ReLUs, a softmax and random weights."""
    chance = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number, (wide, deep) in enumerate(pairwise(layers)):
        weight = chance.normal(0, wide**-0.5, (wide, deep)).astype(np.float32)
        weights += [numpy_helper.from_array(weight, f"w{number}")]
        weights += [numpy_helper.from_array(np.zeros(deep, np.float32), f"b{number}")]
        nodes += [helper.make_node("Gemm", [last, f"w{number}", f"b{number}"], [f"z{number}"])]
        nodes += [helper.make_node("Relu", [f"z{number}"], [f"a{number}"])]
        last = f"a{number}"
    nodes[-1] = helper.make_node("Softmax", [nodes[-2].output[0]], ["p"], axis=-1)
    ends = (("x", layers[0]), ("p", layers[-1]))
    given, answer = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in ends
    )
    graph = helper.make_graph(nodes, path.parts[-3], [given], [answer], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    labels = [f"class {number}" for number in range(layers[-1])]
    stated = {"format": "1", "task": "multiclass", "labels": labels}
    texts = {
        f"sigmax.{key}": v if isinstance(v, str) else json.dumps(v) for key, v in stated.items()
    }
    helper.set_model_props(model, texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


MADE = {"wide": WIDE, "light": LIGHT}
