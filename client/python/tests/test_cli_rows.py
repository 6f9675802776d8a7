"""The ways in which `sigmax classify` takes rows, and the ways in which it prints answers."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sigmax.v1 import classifier_pb2 as pb

ROWS = [[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]]
CSV = "0.25,0.5,0.25\n0,0,1\n"
TEXT = pb.TensorDescription(name="text", dtype=pb.DATA_TYPE_UINT8, shape=[-1, 6], encoding="utf-8")
STRINGS = pb.TensorDescription(name="text", dtype=pb.DATA_TYPE_BYTES, shape=[-1, 1])
AGE = pb.TensorDescription(name="age", dtype=pb.DATA_TYPE_INT64, shape=[-1])
TABLE = [
    "row  decided  most probable",
    "0    mammal   mammal 0.5000, bird 0.2500, reptile 0.2500",
    "1    reptile  reptile 1.0000, bird 0.0000, mammal 0.0000",
]


def describe(peer: Any, *inputs: pb.TensorDescription, max_batch_size: int = 64) -> None:
    """Make the peer's model take these inputs."""
    del peer.described.inputs[:]
    peer.described.inputs.extend(inputs)
    peer.described.max_batch_size = max_batch_size


def sent(peer: Any) -> list[pb.ClassifyRequest]:
    """Return the requests to classify that the peer has seen."""
    return [call for call in peer.calls if isinstance(call, pb.ClassifyRequest)]


def array_file(path: Path, *arrays: Any, **named: Any) -> str:
    """Write arrays in NumPy's formats, and return the path."""
    if named:
        np.savez(path, **named)
    else:
        np.save(path, *arrays)
    return str(path)


def test_rows_as_an_argument(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("classify", "animal", json.dumps(ROWS), "--output=table") == 0
    assert capsys.readouterr().out.splitlines() == TABLE
    assert (
        ask("classify", "--output=table", "animal", "--top-k=3", "-", stdin=json.dumps(ROWS)) == 0
    )
    assert capsys.readouterr().out.splitlines() == TABLE


def test_a_text_without_quotes_is_told_how_to_write_one(
    ask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("classify", "animal", "Das ist ein Satz") == 1
    assert capsys.readouterr().err == (
        "sigmax: ROWS: expected JSON: Expecting value: line 1 column 1 (char 0); a text is "
        """written '"so"', a file is named by --json, --csv, --npy or --npz\n"""
    )


@pytest.mark.parametrize("stdin", [CSV.encode(), b"\xef\xbb\xbf" + CSV.encode()])
def test_csv_of_standard_input_may_have_a_byte_order_mark(
    ask: Any, stdin: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("classify", "animal", "--csv", "-", "--output=table", stdin=stdin) == 0
    assert capsys.readouterr().out.splitlines() == TABLE


@pytest.mark.parametrize("text", [CSV, "mass,length,age\n" + CSV, "\ufeff" + CSV + "\n\n"])
def test_csv(ask: Any, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(text, encoding="utf-8")
    assert ask("classify", "animal", "--csv", str(file), "--output=table") == 0
    assert capsys.readouterr().out.splitlines() == TABLE


def test_csv_and_arrays_from_stdin(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, np.array(ROWS))
    np.savez(npz, x=np.array(ROWS))
    for flag, stdin in (("csv", CSV), ("npy", npy.getvalue()), ("npz", npz.getvalue())):
        assert ask("classify", "animal", f"--{flag}=-", "--output=table", stdin=stdin) == 0
        assert capsys.readouterr().out.splitlines() == TABLE


def test_csv_of_several_inputs(ask: Any, peer: Any) -> None:
    describe(peer, AGE, pb.TensorDescription(name="x", dtype=pb.DATA_TYPE_FP32, shape=[-1, 2]))
    text = f"x,age,x\n0.5,{2**62 + 1},0.25\n1,3,2\n"
    assert ask("classify", "animal", "--csv=-", stdin=text) == 0
    age, x = sent(peer)[0].inputs
    assert np.frombuffer(age.raw, "<i8").tolist() == [2**62 + 1, 3]
    assert np.frombuffer(x.raw, "<f4").reshape(x.shape).tolist() == [[0.5, 0.25], [1, 2]]


@pytest.mark.parametrize(("spec", "shape"), [(TEXT, [2, 6]), (STRINGS, [2, 1])])
def test_csv_of_texts(ask: Any, peer: Any, spec: pb.TensorDescription, shape: list[int]) -> None:
    describe(peer, spec)
    assert ask("classify", "animal", "--csv=-", stdin='anything\n"a, b"\nü\n') == 0
    [tensor] = sent(peer)[0].inputs
    assert list(tensor.shape) == shape
    assert b"a, b" in tensor.raw


def test_csv_of_rows_with_two_axes(ask: Any, peer: Any) -> None:
    describe(peer, pb.TensorDescription(name="x", dtype=pb.DATA_TYPE_UINT8, shape=[-1, 2, 2]))
    assert ask("classify", "animal", "--csv=-", stdin="1,2,3,4\n5,6,7,8\n") == 0
    [tensor] = sent(peer)[0].inputs
    assert (list(tensor.shape), tensor.raw) == ([2, 2, 2], bytes(range(1, 9)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "-: expected rows, got none"),
        ("a,b,c\n", "-: expected rows after the header a, b, c, got none"),
        ("1,2,3\n1,2\n", "-: line 2: expected 3 columns, as in the first line, got 2"),
        ("1,2,3\n1,x,3\n", "-: line 2, column 2: expected a number, got 'x'"),
        ("1,2,3\n1,,3\n", "-: line 2, column 2: expected a number, got ''"),
        ("1,b,3\n1,2,3\n", "-: line 1, column 2: expected a number, got 'b'"),
        ("1,2,1_000\n", "-: line 1, column 3: expected a number, got '1_000'"),
        ("1,2,1.2.3\n", "-: line 1, column 3: expected a number, got '1.2.3'"),
        ("1,2," + "9" * 5000 + "\n", "-: line 1, column 3: expected a number"),
        (f"{2**53 + 1},0.5,1\n", "is beside floats, and would change"),
        ('1,2,"3\n', "-: line 1: expected CSV"),
        ("1,2\n", "expected the columns of input 'x' to fill rows of the shape [3], got 2"),
    ],
)
def test_csv_that_is_none(
    ask: Any, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("classify", "animal", "--csv=-", stdin=text) == 1
    message = capsys.readouterr().err
    assert said in message
    assert message.startswith("sigmax: ")
    assert message.count("\n") == 1


def test_csv_with_a_header_of_other_names(
    ask: Any, peer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    describe(peer, AGE, STRINGS)
    assert ask("classify", "animal", "--csv=-", stdin="age,size\n1,2\n") == 1
    assert "expected a header with the inputs age, text, got age, size" in capsys.readouterr().err


def test_arrays_of_numpy(
    ask: Any, peer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = array_file(tmp_path / "batch.npy", np.array(ROWS))
    row = array_file(tmp_path / "row.npy", np.array(ROWS[0], np.float16))
    named = array_file(tmp_path / "named.npz", x=np.array(ROWS))
    alone = array_file(tmp_path / "alone.npz", other=np.array(ROWS))
    for flag, file in (("--npy", batch), ("--npz", named), ("--npz", alone)):
        assert ask("classify", "animal", flag, file, "--output=table") == 0
        assert capsys.readouterr().out.splitlines() == TABLE
    assert ask("classify", "animal", "--npy", row, "--output=table") == 0
    assert capsys.readouterr().out.splitlines() == TABLE[:2]
    describe(peer, AGE, STRINGS)
    named = array_file(tmp_path / "two.npz", age=[7, 8], text=np.array([["a"], ["b"]]))
    assert ask("classify", "animal", "--npz", named) == 0
    assert sent(peer)[-1].inputs[1].raw == b"\1\0\0\0a\1\0\0\0b"


@pytest.mark.parametrize(
    ("flag", "content", "said"),
    [
        ("--npy", b"", "expected arrays in NumPy's format"),
        ("--npy", b"\x93NUMPY garbage", "expected arrays in NumPy's format"),
        ("--npz", b"PK\3\4 garbage", "expected arrays in NumPy's format"),
        ("--npy", "object", "allow_pickle=False"),
        ("--npz", "array", "expected arrays by name; use --npy for one"),
        ("--npy", "arrays", "expected one array; use --npz for several"),
        ("--npz", "arrays", "expects the inputs 'x'; got 'a', 'b'"),
    ],
)
def test_files_that_are_no_arrays(
    ask: Any, tmp_path: Path, flag: str, content: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.BytesIO()
    if content == "object":
        np.save(file, np.array([{}, None]), allow_pickle=True)
    elif content == "array":
        np.save(file, np.zeros(3))
    elif content == "arrays":
        np.savez(file, a=np.zeros(3), b=np.zeros(3))
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else file.getvalue())
    assert ask("classify", "animal", flag, str(path)) == 1
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_many_rows_are_sent_as_the_server_takes_them(ask: Any, peer: Any, tmp_path: Path) -> None:
    describe(peer, peer.described.inputs[0], max_batch_size=4)
    file = array_file(tmp_path / "x.npy", np.tile(ROWS[0], (10, 1)))
    assert ask("classify", "animal", "--npy", file) == 0
    assert [request.inputs[0].shape[0] for request in sent(peer)] == [4, 4, 2]
    peer.calls.clear()
    assert ask("classify", "animal", "--csv=-", stdin="1,0,0\n" * 5) == 0
    assert [request.inputs[0].shape[0] for request in sent(peer)] == [4, 1]


def test_large_rows_are_sent_in_smaller_requests(ask: Any, peer: Any, tmp_path: Path) -> None:
    describe(peer, pb.TensorDescription(name="x", dtype=pb.DATA_TYPE_UINT8, shape=[-1, 6_000_000]))
    file = array_file(tmp_path / "x.npy", np.zeros((3, 6_000_000), np.uint8))
    assert ask("classify", "animal", "--npy", file) == 0
    assert [request.inputs[0].shape[0] for request in sent(peer)] == [2, 1]


def test_answers_as_csv(ask: Any, peer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    peer.described.labels[0] = "a, b\x1b"
    assert ask("classify", "animal", json.dumps(ROWS), "--output=csv") == 0
    assert capsys.readouterr().out.splitlines() == [
        r'row,decided,"a, b\x1b",mammal,reptile',
        "0,mammal,0.25,0.5,0.25",
        "1,reptile,0.0,0.0,1.0",
    ]
    assert ask("classify", "animal", json.dumps(ROWS), "--output=csv", "--top-k=1") == 0
    assert capsys.readouterr().out.splitlines() == [
        "row,decided,mammal,reptile",
        "0,mammal,0.5,",
        "1,reptile,,1.0",
    ]


def test_models_as_csv(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("models", "--output=csv") == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "model,version,state,task,reason",
        "animal,2,ready,multiclass,",
    ]
    assert ask("model", "animal", "--output=csv") == 0
    assert 'labels,"bird, mammal, reptile"\n' in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["[1]", "--json=-"], ["--csv=a", "--npy=b"]])
def test_rows_come_from_one_place(
    ask: Any, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        ask("classify", "animal", *arguments)
    assert caught.value.code == 2
    assert "expected rows from one of ROWS, --json, --csv, --npy," in capsys.readouterr().err


def test_an_address_that_is_none(ask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("models", "--address=http://localhost:8001") == 1
    assert capsys.readouterr().err.startswith("sigmax: address: expected ")
    assert ask("models", "--timeout=nan") == 1
    assert "timeout: expected at most" in capsys.readouterr().err
