"""`sigmax classify --image` gives a model the pixels that its input says."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sigmax.v1 import classifier_pb2 as pb

RED_AND_BLUE = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)  # a row of two pixels


def takes(peer: Any, dtype: str, *shape: int, max_batch_size: int = 64) -> None:
    """Make the peer's model take one input of this dtype and shape."""
    spec = pb.TensorDescription(name="image", dtype=f"DATA_TYPE_{dtype}", shape=shape)
    peer.described.inputs[0].CopyFrom(spec)
    peer.described.max_batch_size = max_batch_size


def tensors(peer: Any) -> list[pb.Tensor]:
    return [call.inputs[0] for call in peer.calls if isinstance(call, pb.ClassifyRequest)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    Image.fromarray(RED_AND_BLUE).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((-1, 1, 2, 3), RED_AND_BLUE),
        ((-1, -1, -1, 3), RED_AND_BLUE),
        ((-1, 3, 1, 2), np.moveaxis(RED_AND_BLUE, 2, 0)),
        ((-1, 1, 2), np.array([[76, 29]], np.uint8)),  # ITU-R 601: 0.299 R + 0.587 G + 0.114 B
        ((-1, 1, 2, 1), np.array([[[76], [29]]], np.uint8)),
        ((-1, 1, 2, 4), np.array([[[255, 0, 0, 255], [0, 0, 255, 255]]], np.uint8)),
        ((-1, 3, 6, 3), np.array(Image.fromarray(RED_AND_BLUE).resize((6, 3), 2))),
    ],
)
def test_pixels_of_uint8(ask: Any, peer: Any, file: str, shape: Any, expected: Any) -> None:
    takes(peer, "UINT8", *shape)
    assert ask("classify", "animal", "--image", file) == 0
    [tensor] = tensors(peer)
    assert list(tensor.shape) == [1, *expected.shape]
    assert tensor.raw == expected.tobytes()


@pytest.mark.parametrize(("dtype", "numpy"), [("FP32", "<f4"), ("FP16", "<f2"), ("FP64", "<f8")])
def test_pixels_of_floats_are_from_0_to_1(
    ask: Any, peer: Any, file: str, dtype: str, numpy: str
) -> None:
    takes(peer, dtype, -1, 3, 1, 2)
    assert ask("classify", "animal", "--image", file) == 0
    [tensor] = tensors(peer)
    assert np.frombuffer(tensor.raw, numpy).tolist() == [1, 0, 0, 0, 0, 1]


def test_several_images_are_a_batch(ask: Any, peer: Any, file: str) -> None:
    takes(peer, "UINT8", -1, 1, 2, 3)
    assert ask("classify", "animal", "--image", file, "--image", file) == 0
    takes(peer, "UINT8", -1, -1, -1, 3)  # images of any size cannot share a batch
    assert ask("classify", "animal", "--image", file, "--image", file) == 0
    assert [tensor.shape[0] for tensor in tensors(peer)] == [2, 1, 1]


def test_a_model_of_exactly_one_image(ask: Any, peer: Any, file: str) -> None:
    takes(peer, "UINT8", 1, 3, 1, 2, max_batch_size=0)
    assert ask("classify", "animal", "--image", file) == 0
    assert list(tensors(peer)[0].shape) == [1, 3, 1, 2]


def test_a_photo_is_turned_as_the_camera_says(ask: Any, peer: Any, tmp_path: Path) -> None:
    takes(peer, "UINT8", -1, -1, -1, 3)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: the camera was held upright
    path = tmp_path / "photo.png"
    Image.fromarray(RED_AND_BLUE).save(path, exif=turned)
    assert ask("classify", "animal", "--image", str(path)) == 0
    assert list(tensors(peer)[0].shape) == [1, 2, 1, 3]


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("FP32", (-1, 3)),
        ("UINT8", (-1, 5, 7, 9)),
        ("INT64", (-1, 8, 8)),
        ("UINT8", (-1, 2, 3, 8, 8)),
    ],
)
def test_an_input_that_is_no_image(
    ask: Any,
    peer: Any,
    file: str,
    dtype: str,
    shape: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    takes(peer, dtype, *shape)
    assert ask("classify", "animal", "--image", file) == 1
    message = capsys.readouterr().err
    assert "input 'image' of model 'animal' is no image: expected UINT8 or floats" in message
    assert f"got {dtype} of the shape {list(shape)}" in message


def test_files_that_are_no_images(
    ask: Any, peer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    takes(peer, "UINT8", -1, 1, 2, 3)
    deep, text, cut = tmp_path / "deep.png", tmp_path / "text.png", tmp_path / "cut.png"
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(deep)
    text.write_text("no image")
    Image.fromarray(RED_AND_BLUE).resize((99, 99)).save(cut)
    cut.write_bytes(cut.read_bytes()[:100])
    for path, said in (
        (deep, "expected an image of 8 bits a channel, got the mode I"),
        (text, "cannot identify image file"),
        (cut, f"cannot read {cut}: "),
        (tmp_path / "missing.png", "No such file"),
    ):
        assert ask("classify", "animal", "--image", str(path)) == 1
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1


def test_without_pillow(
    ask: Any, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert ask("classify", "animal", "--image", file) == 1
    assert 'pip install "sigmax[images]"' in capsys.readouterr().err
