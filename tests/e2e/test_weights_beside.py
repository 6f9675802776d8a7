"""Weights in files beside a model: those that were read and checked are served."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node
from support import files
from support.server import Serve, Server
from support.wire import Tensor, infer, triton
from tritonclient.grpc import service_pb2  # type: ignore[import-untyped]

ROW = [0.25, -0.5, 1.0]


def answer(server: Server, name: str, row: list[float]) -> list[float]:
    given = Tensor.of("x", np.array([row], np.float32))
    found: list[float] = infer(server, name, given)[0].array[0].tolist()
    return found


def lookup(rows: int, width: int) -> onnx.ModelProto:
    """A number to its row of a table, whose elements are the row's number."""
    table = np.repeat(np.arange(rows, dtype=np.float32)[:, None], width, axis=1)
    shapes = [files.tensor("x", "INT64", "batch")], [files.tensor("y", "FP32", "batch", width)]
    return files.graph([make_node("Gather", ["table", "x"], ["y"])], *shapes, {"table": table})


@pytest.mark.parametrize("engines", [0, 3], ids=["light", "workers"])
@pytest.mark.parametrize("side", [4, 64], ids=["small", "shared"])
def test_what_happens_to_the_file_changes_nothing(
    serve: Serve, tmp_path: Path, engines: int, side: int
) -> None:
    repository = tmp_path / "repository"
    data = files.save_beside(files.wide(side), repository, "m")
    files.save(files.wide(side), repository, "inside")
    if engines:
        config = f"instance_group {{ kind: KIND_CPU count: {engines} }}"
        (repository / "m/config.pbtxt").write_text(config)
    server = serve(repository, "--shards=2")
    row = np.random.default_rng(0).normal(size=side).tolist()
    expected = answer(server, "inside", row)
    assert answer(server, "m", row) == expected
    data.write_bytes(np.arange(data.stat().st_size // 4, dtype=np.float32).tobytes())
    assert [answer(server, "m", row) for _ in range(20)] == [expected] * 20
    os.truncate(data, 0)
    assert [answer(server, "m", row) for _ in range(20)] == [expected] * 20
    data.unlink()
    assert [answer(server, "m", row) for _ in range(20)] == [expected] * 20
    assert server.stop() == 0


def test_answers_are_the_same_bits_as_with_weights_inside(serve: Serve, tmp_path: Path) -> None:
    builds: dict[str, Callable[[], onnx.ModelProto]] = {
        "linear": files.linear,
        "layers": files.layers,
        "looped": files.looped,
        "wide": partial(files.wide, 512),
        "convolution": files.convolution,
    }
    for name, build in builds.items():
        files.save(build(), tmp_path / "repository", f"{name}-inside")
        files.save_beside(build(), tmp_path / "repository", f"{name}-beside")
    server = serve(tmp_path / "repository")
    for name, build in builds.items():
        sizes = [dim.dim_value for dim in build().graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(0).normal(size=(7, *sizes[1:])).astype(np.float32)
        answers = [
            infer(server, f"{name}-{where}", Tensor.of("x", x)) for where in ("inside", "beside")
        ]
        assert answers[0][0].raw == answers[1][0].raw, name


def test_it_is_read_again_when_the_model_is_loaded_again(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    data = files.save_beside(lookup(4, 3), repository, "m")
    server = serve(repository, "--model-control=explicit", "--load-model=*")
    row = Tensor.of("x", [2], np.int64)
    assert infer(server, "m", row)[0].array.tolist() == [[2, 2, 2]]
    data.write_bytes(np.full(12, 7, np.float32).tobytes())
    assert infer(server, "m", row)[0].array.tolist() == [[2, 2, 2]]
    triton(server).RepositoryModelLoad(
        service_pb2.RepositoryModelLoadRequest(model_name="m"), timeout=60
    )
    assert infer(server, "m", row)[0].array.tolist() == [[7, 7, 7]]


@pytest.mark.slow
def test_engines_share_what_is_beside_a_model(serve: Serve, tmp_path: Path) -> None:
    """Nine engines of a table of 64 MB hold it once; a copy for each would be 576 MB."""
    repository = tmp_path / "repository"
    files.save_beside(lookup(4096, 4096), repository, "m")
    config = "max_batch_size: 8 instance_group { kind: KIND_CPU count: 9 }"
    (repository / "m/config.pbtxt").write_text(config)
    server = serve(repository)
    given = Tensor.of("x", [5, 4095], np.int64)
    assert infer(server, "m", given)[0].array[:, 7].tolist() == [5, 4095]
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    assert int(resident) < 350_000


def odd_types() -> onnx.ModelProto:
    """Adds up weights of several types, one of which begins at an odd byte."""
    weights = {
        "flags": np.array([True, False, True]),
        "halves": np.array([0.5, 1.5, 2.5], np.float16),
        "floats": np.array([1, 2, 4], np.float32),
        "nothing": np.zeros((0, 3), np.float32),
    }
    nodes = [
        *(
            make_node("Cast", [name], [f"{name}-32"], to=TensorProto.FLOAT)
            for name in ("flags", "halves")
        ),
        make_node("Concat", ["x", "nothing"], ["all"], axis=0),
        make_node("Sum", ["all", "flags-32", "halves-32", "floats"], ["y"]),
    ]
    shape = ("batch", 3)
    return files.graph([*nodes], [files.tensor("x", "FP32", *shape)], [
        files.tensor("y", "FP32", *shape)
    ], weights)  # fmt: skip


def nested() -> onnx.ModelProto:
    """A weight of a branch, and a constant of a node, neither of them the graph's own."""
    branches = [
        helper.make_graph(
            [make_node("Add", ["x", name], ["out"])],
            name,
            [],
            [files.tensor("out", "FP32", "batch", 3)],
            [onnx.numpy_helper.from_array(np.full(3, value, np.float32), name)],
        )
        for name, value in (("ten", 10), ("twenty", 20))
    ]
    constant = onnx.numpy_helper.from_array(np.array(100, np.float32))
    nodes = [
        make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        make_node("Greater", ["sum", "zero"], ["is-positive"]),
        make_node("If", ["is-positive"], ["far"], then_branch=branches[0], else_branch=branches[1]),
        make_node("Constant", [], ["hundred"], value=constant),
        make_node("Add", ["far", "hundred"], ["y"]),
    ]
    shape = ("batch", 3)
    return files.graph(
        nodes,
        [files.tensor("x", "FP32", *shape)],
        [files.tensor("y", "FP32", *shape)],
        {"zero": np.array(0, np.float32)},
    )


def test_every_tensor_is_found_wherever_it_lies(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    files.save_beside(odd_types(), repository, "odd")
    data = files.save_beside(nested(), repository, "nested")
    files.save_beside(files.with_default(), repository, "default")
    (repository / "default/config.pbtxt").write_text(
        'input [ { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }, '
        '{ name: "bias" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]'
    )
    server = serve(repository)
    data.unlink()
    assert answer(server, "odd", [1, 1, 1]) == [3.5, 4.5, 8.5]
    assert answer(server, "nested", [1, 1, 1]) == [111] * 3
    assert answer(server, "nested", [-1, -1, -1]) == [119] * 3
    x, bias = Tensor.of("x", [1.0, 2.0]), Tensor.of("bias", [5.0])
    assert infer(server, "default", x)[0].array.tolist() == [2, 3]
    assert infer(server, "default", x, bias)[0].array.tolist() == [6, 7]
    assert infer(server, "default", x)[0].array.tolist() == [2, 3]


def broken(change: Callable[[Path], None]) -> Callable[[Path, str], None]:
    def build(repository: Path, name: str) -> None:
        change(files.save_beside(files.linear(), repository, name))

    return build


def located(location: str) -> Callable[[Path, str], None]:
    def build(repository: Path, name: str) -> None:
        data = files.save_beside(files.linear(), repository, name)
        file = data.parent / "model.onnx"
        model = onnx.load(file, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        file.write_bytes(model.SerializeToString())

    return build


def replaced(make: Callable[[Path], object]) -> Callable[[Path, str], None]:
    def change(data: Path) -> None:
        data.unlink()
        make(data)

    return broken(change)


BROKEN: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "gone": (broken(Path.unlink), "weights 'weight': model.onnx.data: No such file"),
    "short": (broken(lambda data: os.truncate(data, 4)), "model.onnx.data, which has 4"),
    "pipe": (replaced(os.mkfifo), "model.onnx.data: expected a file, got a named pipe"),
    "folder": (replaced(Path.mkdir), "model.onnx.data: expected a file, got a folder"),
    "device": (
        replaced(lambda data: data.symlink_to("/dev/zero")),
        "model.onnx.data: expected a file, got a device",
    ),
    "linked-pipe": (
        replaced(lambda data: data.symlink_to(pipe(data.with_name("pipe")))),
        "model.onnx.data: expected a file, got a named pipe",
    ),
    "above": (located("../../other"), "expected a file in the model's folder"),
    "absolute": (located("/etc/hostname"), "expected a file in the model's folder"),
    "lost": (
        replaced(lambda data: data.symlink_to("../../missing")),
        "model.onnx.data: No such file",
    ),
    "huge": (replaced(lambda data: huge(data)), "more than memory can hold"),
}


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def huge(data: Path) -> None:
    """Four terabytes of weights, of which the disk has none."""
    with data.open("wb") as file:
        file.truncate(2**43)
    path = data.parent / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    weight = model.graph.initializer[0]
    weight.dims[:] = [2**20, 2**20]
    for entry in weight.external_data:
        if entry.key == "length":
            entry.value = str(2**42)
    path.write_bytes(model.SerializeToString())


def in_a_cache(data: Path) -> None:
    """Move both files away as Hugging Face's cache has them, with links in their places."""
    blobs = data.parents[3] / "blobs"
    blobs.mkdir()
    for number, file in enumerate((data, data.with_name("model.onnx"))):
        file.rename(blobs / str(number))
        file.symlink_to(f"../../../blobs/{number}")


def in_a_worktree(data: Path) -> None:
    """Put a link in the place of the model's folder, as git-sync has it."""
    folder, worktree = data.parents[1], data.parents[3] / ".worktrees"
    worktree.mkdir()
    folder.rename(worktree / "4f2a")
    folder.symlink_to("../.worktrees/4f2a")


def in_a_volume(data: Path) -> None:
    """Put both files into a folder behind a link, as a ConfigMap has them."""
    folder = data.with_name("..2026_01_31")
    folder.mkdir()
    data.with_name("..data").symlink_to(folder.name)
    for file in (data, data.with_name("model.onnx")):
        file.rename(folder / file.name)
        file.symlink_to(f"..data/{file.name}")


def on_another_disk(data: Path) -> None:
    """Move the weights alone away, as who has no room for them does."""
    away = data.parents[3] / "away"
    data.rename(away)
    data.symlink_to(away)


LINKED = {
    "cache": in_a_cache,
    "worktree": in_a_worktree,
    "volume": in_a_volume,
    "away": on_another_disk,
}


def test_links_are_followed_wherever_they_lead(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    files.save(files.wide(64), repository, "inside")
    for name, link in LINKED.items():
        link(files.save_beside(files.wide(64), repository, name))
    server = serve(repository, "--model-control=explicit", "--load-model=*")
    row = np.random.default_rng(0).normal(size=64).tolist()
    expected = answer(server, "inside", row)
    assert [answer(server, name, row) for name in LINKED] == [expected] * len(LINKED)
    load = triton(server).RepositoryModelLoad
    load(service_pb2.RepositoryModelLoadRequest(model_name="cache"), timeout=60)
    assert answer(server, "cache", row) == expected


def test_a_file_that_is_not_what_it_should_be_is_named(serve: Serve, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name, (build, _) in BROKEN.items():
        build(repository, name)
    files.save_beside(files.linear(), repository, "good")
    server = serve(repository)
    reasons = {model.name: model.versions[0].reason for model in server.client.models()}
    for name, (_, expected) in BROKEN.items():
        assert expected in reasons[name]
        assert len(reasons[name]) <= 400
    assert answer(server, "good", ROW)
    assert server.stop() == 0
