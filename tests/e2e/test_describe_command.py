"""`sigmax describe` prints what a file holds, and writes copies that describe themselves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.helper import make_node
from support import files
from support.server import Serve

ROWS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def describe(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [Path(sys.executable).with_name("sigmax"), "describe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def written(*arguments: str | Path) -> str:
    """What a command has printed that must have worked."""
    done = describe(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(*arguments: str | Path) -> str:
    done = describe(*arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    return line


def saved(model: onnx.ModelProto, folder: Path, name: str = "given.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


def scores() -> onnx.ModelProto:
    """Return raw scores, without any metadata."""
    shapes = [files.tensor("x", "FP32", "batch", 3)], [files.tensor("s", "FP32", "batch", 3)]
    return files.graph([make_node("Identity", ["x"], ["s"])], *shapes)


def test_what_a_file_holds_is_printed(tmp_path: Path) -> None:
    told = written(saved(files.softmax(), tmp_path))
    assert "input      x FLOAT[batch, 5]" in told
    assert "serves     multiclass from p; labels a, b, c, d, e" in told
    assert "missing    golden samples" in told
    bare = json.loads(written("--json", saved(scores(), tmp_path)))
    assert {"fact": "missing", "value": "a task: --task binary, multiclass or multilabel"} in bare


def test_a_file_that_would_not_be_served_is_told_with_the_reason(tmp_path: Path) -> None:
    done = describe(saved(files.zipped(), tmp_path))
    assert done.returncode == 1
    assert "`sigmax describe` takes out the ZipMap that makes it" in done.stdout
    assert "expected an ONNX file" in refused(Path(__file__))
    assert "No such file" in refused(tmp_path / "missing.onnx")


def test_a_classifier_of_scikit_learns_kind_is_served(tmp_path: Path, serve: Serve) -> None:
    given = saved(files.zipped(), tmp_path)
    out = tmp_path / "repository/animal/1/model.onnx"
    np.savez(tmp_path / "rows.npz", x=ROWS)
    told = written(given, "--task", "multiclass", "--golden", tmp_path / "rows.npz", "-o", out)
    assert "serves     multiclass from p; labels a, b, c" in told
    assert "missing" not in told
    server = serve(tmp_path / "repository")
    result = server.client.classify("animal", ROWS)
    assert [row.decision[0].label for row in result] == ["abc"[row.argmax()] for row in ROWS]


def test_scores_become_probabilities_in_the_graph(tmp_path: Path, serve: Serve) -> None:
    given = saved(scores(), tmp_path)
    labels = tmp_path / "labels.txt"
    labels.write_bytes(b"\xef\xbb\xbfhen\r\nox, or bull\r\nfly\r\n\r\n")
    softmax, sigmoid = (tmp_path / f"repository/{name}/1/model.onnx" for name in ("one", "many"))
    written(
        given,
        "--task",
        "multiclass",
        "--activation",
        "softmax",
        "--labels-file",
        labels,
        "--input-meaning",
        "x=three scores",
        "-o",
        softmax,
    )
    written(
        given,
        "--task",
        "multilabel",
        "--activation",
        "sigmoid",
        "--threshold",
        "0.2,0.5,0.8",
        "--labels",
        'hen, "ox, or bull", fly',
        "--rows-independent",
        "true",
        "-o",
        sigmoid,
    )
    server = serve(tmp_path / "repository")
    one = server.client.model("one")
    assert one.labels == ("hen", "ox, or bull", "fly")
    assert (one.inputs[0].meaning, one.outputs[0].name) == ("three scores", "probabilities")
    expected = np.exp(ROWS) / np.exp(ROWS).sum(axis=1, keepdims=True)
    assert server.client.classify("one", ROWS).probabilities == pytest.approx(expected, abs=1e-6)
    many = server.client.classify("many", ROWS)
    assert many.probabilities == pytest.approx(1 / (1 + np.exp(-ROWS)), abs=1e-6)
    assert server.client.model("many").thresholds == pytest.approx((0.2, 0.5, 0.8))


def test_heads_are_stated_by_a_file(tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    heads.write_text(
        '[{"name": "kind", "task": "multiclass"}, {"name": "any", "task": "multilabel"}]'
    )
    told = written(saved(files.softmax(), tmp_path), "--heads", heads, "-o", tmp_path / "out.onnx")
    assert "serves     head kind: multiclass from p" in told
    assert "sigmax.task" not in told
    told = written(tmp_path / "out.onnx", "--task", "multiclass", "-o", tmp_path / "again.onnx")
    assert "sigmax.heads" not in told
    assert "serves     multiclass from p" in told


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--task", "multiclass"], "row 0, class 1: expected a probability in [0, 1]"),
        (["--task", "binary"], "sigmax.task is binary: expected an output of one probability"),
        (["--task", "multiclass", "--output", "y"], "--output: expected one of s; got 'y'"),
        (["--activation", "softmax"], "--activation: expected --task"),
        (["--output", "s"], "--output: expected --task, which says what is classified"),
        (["--heads", "h.json", "--task", "binary"], "--task: expected none beside --heads"),
        (["--heads", "h.json", "--threshold", "1"], "--threshold: expected none beside --heads"),
        (["--heads", "none.json"], "--heads none.json: No such file or directory"),
        (["--task", "multiclass", "--labels-file", "/"], "--labels-file /: expected a file"),
        (["--labels", "a,b,c"], "sigmax.labels: there is no sigmax.task whose 3 classes they name"),
        (
            ["--task", "multilabel", "--activation", "sigmoid", "--labels", "a,b"],
            "sigmax.labels: expected 3",
        ),
    ],
)
def test_a_copy_that_would_not_be_served_is_not_written(
    tmp_path: Path, arguments: list[str], problem: str
) -> None:
    out = tmp_path / "out/model.onnx"
    out.parent.mkdir()
    out.write_bytes(b"as it was")
    assert problem in refused(saved(scores(), tmp_path), *arguments, "-o", out)
    assert out.read_bytes() == b"as it was"
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]


def test_golden_rows_are_held_to_the_file(tmp_path: Path) -> None:
    given, out = saved(scores(), tmp_path), tmp_path / "out.onnx"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"y": ROWS}, "expected an array for every input, got none for x"),
        ({"x": ROWS, "y": ROWS}, "expected arrays named x, s; got 'y'"),
        ({"x": ROWS[:, :2]}, "ONNX Runtime does not run these rows"),
        ({"x": ROWS, "s": ROWS + 1}, "golden sample 0: output 's', row 0: expected"),
    ]
    for arrays, problem in wrong:
        np.savez(tmp_path / "rows.npz", **arrays)
        assert problem in refused(given, "--golden", tmp_path / "rows.npz", "-o", out)
    assert not out.exists()
    np.savez(tmp_path / "rows.npz", x=ROWS, s=ROWS)
    written(given, "--golden", tmp_path / "rows.npz", "-o", out)
    assert (tmp_path / "out_test_data_set_0/output_0.pb").exists()
    again = tmp_path / "again.onnx"
    written(out, "--input-meaning", "x=scores", "-o", again)
    assert (tmp_path / "again_test_data_set_0/output_0.pb").exists()


def test_golden_rows_are_taken_in_the_type_of_the_graph(tmp_path: Path) -> None:
    given, rows, out = saved(scores(), tmp_path), tmp_path / "rows.npz", tmp_path / "out.onnx"
    np.savez(rows, x=ROWS.astype(np.float64), s=ROWS.astype(np.float64))
    written(given, "--golden", rows, "-o", out)
    np.savez(rows, x=np.arange(300).reshape(100, 3))
    written(given, "--golden", rows, "-o", out)
    sample = onnx.load_tensor(tmp_path / "out_test_data_set_0/input_0.pb")
    assert (sample.data_type, list(sample.dims)) == (onnx.TensorProto.FLOAT, [64, 3])
    # No row of an input without a batch axis is left out, and a number is no array of rows.
    nodes = [make_node("MatMul", ["x", "w"], ["y"]), make_node("Mul", ["y", "k"], ["s"])]
    inputs = [files.tensor("x", "FP32", "batch", 99), files.tensor("w", "FP32", 99, 3)]
    inputs += [files.tensor("k", "FP32")]
    model = files.graph(nodes, inputs, [files.tensor("s", "FP32", "batch", 3)])
    np.savez(rows, x=np.ones((2, 99)), w=np.ones((99, 3)), k=2)
    written(saved(model, tmp_path), "--golden", rows, "-o", out)


def bfloat16() -> onnx.ModelProto:
    nodes = [make_node("Cast", ["x"], ["s"], to=onnx.TensorProto.BFLOAT16)]
    shapes = [files.tensor("x", "FP32", "batch", 3)], [files.tensor("s", "BF16", "batch", 3)]
    return files.graph(nodes, *shapes)


def test_golden_rows_that_are_none_are_told(tmp_path: Path) -> None:
    given, rows, out = saved(scores(), tmp_path), tmp_path / "rows.npz", tmp_path / "out.onnx"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"x": ROWS[:0]}, "expected at least one row of 'x', got the shape [0, 3]"),
        ({"x": ROWS, "s": np.array(["a"])}, "expected values of 's' that FLOAT can hold, got <U1"),
        (
            {"x": ROWS.astype(np.float64) * 1e300},
            "that FLOAT can hold, got float64[5, 3]",
        ),
    ]
    for arrays, problem in wrong:
        np.savez(rows, **arrays)
        assert problem in refused(given, "--golden", rows, "-o", out)
    whole = rows.read_bytes()
    np.save(tmp_path / "rows.npy", ROWS)
    for content in (b"", whole[:100], whole[:-1], (tmp_path / "rows.npy").read_bytes()):
        rows.write_bytes(content)
        told = refused(given, "--golden", rows, "-o", out)
        assert f"--golden {rows}: expected a .npz file of arrays by their names" in told
    np.savez(rows, x=ROWS)
    given = saved(bfloat16(), tmp_path)
    assert "because 's' is BFLOAT16" in refused(given, "--golden", rows, "-o", out)
    np.savez(rows, x=ROWS, s=ROWS)
    written(given, "--golden", rows, "-o", out)


def test_a_zip_map_names_the_classes_of_its_head(tmp_path: Path) -> None:
    heads = tmp_path / "heads.json"
    heads.write_text('[{"name": "kind", "output": "p", "task": "multiclass"}]')
    told = written(saved(files.zipped(), tmp_path), "--heads", heads, "-o", tmp_path / "out.onnx")
    assert "serves     head kind: multiclass from p; labels a, b, c" in told


def test_weights_beside_the_file_are_brought_into_the_copy(tmp_path: Path) -> None:
    weights = files.save_beside(files.layers(), tmp_path, "beside")
    given, out = weights.with_name("model.onnx"), tmp_path / "out.onnx"
    content = weights.rename(tmp_path / "blob")
    weights.symlink_to(content)  # as in Hugging Face's cache
    written(given, "-o", out)
    weights.unlink()
    assert "batches    up to 1024 rows" in written(out)
    told = refused(given, "-o", out)
    assert f"'model.onnx.data': expected a file in the model's folder, {given.parent}" in told
    weights.write_bytes(b"short")
    assert "bytes from 0 on, got 5" in refused(given, "-o", out)


def test_nothing_is_left_of_a_copy_that_is_not_written(tmp_path: Path) -> None:
    given = saved(scores(), tmp_path)
    refused(given, "--task", "multiclass", "-o", tmp_path / "repository/animal/1/model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["given.onnx"]
    (tmp_path / "folder.onnx").mkdir()
    for out in (tmp_path, tmp_path / "folder.onnx", tmp_path / "model"):
        told = refused(given, "-o", out)
        assert "-o: expected a file whose name ends in .onnx, got '" in told
        assert told.endswith(f"{out.name}'")
    told = refused(given, "-o", given / "model.onnx")
    assert told == f"sigmax describe: {given}/model.onnx is not written: Not a directory"


def test_no_names_are_no_labels(tmp_path: Path) -> None:
    done = describe(saved(scores(), tmp_path), "--task", "multiclass", "--labels", " ", "-o", "o")
    assert done.returncode == 2
    assert "argument --labels: expected names, got ' '" in done.stderr


def test_what_describes_a_copy_needs_a_place_for_it(tmp_path: Path) -> None:
    done = describe(saved(scores(), tmp_path), "--task", "binary")
    assert done.returncode == 2
    assert "--task describes a copy: expected -o OUT, the file to write" in done.stderr


def test_the_configuration_beside_a_file_counts(tmp_path: Path) -> None:
    shapes = [files.tensor("x", "FP32", "batch", 5)], [files.tensor("p", "FP32", "batch", 5)]
    bare = files.graph([make_node("Softmax", ["x"], ["p"], axis=-1)], *shapes)
    text = """parameters { key: "sigmax.task" value { string_value: "multiclass" } }"""
    files.configured(tmp_path, "animal", bare, text)
    assert "serves     multiclass from p" in written(tmp_path / "animal/1/model.onnx")
    (tmp_path / "animal/config.pbtxt").write_text("max_batch_size: fish")
    assert "config.pbtxt" in describe(tmp_path / "animal/1/model.onnx").stdout


def test_golden_samples_that_no_longer_hold_are_told(tmp_path: Path) -> None:
    given = saved(scores(), tmp_path)
    np.savez(tmp_path / "rows.npz", x=ROWS)
    written(given, "--golden", tmp_path / "rows.npz", "-o", given)
    done = describe(given, "--task", "multiclass", "--activation", "softmax", "-o", given)
    assert done.returncode == 0
    assert "note: the golden samples of" in done.stderr
