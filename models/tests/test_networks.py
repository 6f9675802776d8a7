import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from sigmax_models import Export, InexactWarning, networks
from sigmax_models.declaration import Task
from sigmax_models.golden import golden_folders, read_tensor
from sigmax_models.graph import OPSET
from sigmax_models.network import Network, Trained
from sigmax_models.networks import animals, digits, dtmf, language, linear
from sigmax_models.parity import EXACT, answer_onnx, answer_torch, measure, open_session


@dataclass(frozen=True)
class Published:
    """A network that was trained and exported, once for all tests."""

    network: Network
    trained: Trained
    export: Export
    repository: Path

    def session(self, threads: int = 1) -> onnxruntime.InferenceSession:
        return open_session(self.export.path.read_bytes(), threads)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Published]:
    repository = tmp_path_factory.mktemp("repository")

    @cache
    def publish(name: str) -> Published:
        network = networks.get(name)
        trained = network.train(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error", InexactWarning)
            return Published(network, trained, network.publish(trained, repository), repository)

    return publish


Publish = Callable[[str], Published]

every_network = pytest.mark.parametrize("name", networks.NAMES)

# The interface of each: input's name, dtype and row shape; output's name and width; task.
INTERFACES: dict[str, tuple[str, str, list[int], str, int, Task | None]] = {
    "linear": ("input", "tensor(float)", [3], "scores", 2, None),
    "sequential": ("features", "tensor(float)", [10], "probabilities", 5, "multiclass"),
    "mammal": ("traits", "tensor(float)", [6], "probabilities", 1, "binary"),
    "animal": ("traits", "tensor(float)", [6], "probabilities", 3, "multiclass"),
    "digits": ("image", "tensor(uint8)", [8, 8], "probabilities", 10, "multiclass"),
    "language": ("text", "tensor(uint8)", [64], "probabilities", 10, "multiclass"),
    "dtmf": ("samples", "tensor(int16)", [1600], "probabilities", 16, "multiclass"),
}
# Well below what was measured, well above what chance gives.
LEARNED = {
    "sequential": 0.95,
    "mammal": 0.90,
    "animal": 0.90,
    "digits": 0.96,
    "language": 0.88,
    "dtmf": 0.98,
}


def decide(network: Network, probabilities: np.ndarray) -> str:
    """The label of one row: a threshold for binary, arg max for multi-class."""
    labels = network.declaration.labels
    if network.declaration.task == "binary":
        return labels[int(probabilities[0] > network.declaration.thresholds[0])]
    return labels[int(probabilities.argmax())]


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNED)
def test_a_network_learns_what_its_baseline_does_not_know(published: Publish, name: str) -> None:
    score = published(name).trained.score
    assert score is not None
    assert score.rows == len(published(name).trained.held_out)
    assert score.accuracy >= LEARNED[name] > score.baseline + 0.2


@pytest.mark.slow
@every_network
def test_held_out_rows_were_not_trained_on(published: Publish, name: str) -> None:
    trained = published(name).trained
    seen = {row.tobytes() for row in trained.seen}
    assert not [row for row in trained.held_out if row.tobytes() in seen]


@pytest.mark.slow
@every_network
def test_unseen_samples_are_new_and_answered_rightly(published: Publish, name: str) -> None:
    network = published(name).network
    session = published(name).session()
    seen = {row.tobytes() for row in published(name).trained.seen}
    for sample in network.unseen():
        assert sample.row.tobytes() not in seen
        answer = answer_onnx(session, {network.input: sample.row[np.newaxis]})[0]
        if isinstance(sample.expected, str):
            assert decide(network, answer) == sample.expected, sample.description
        else:
            assert answer.tolist() == pytest.approx(sample.expected, abs=5e-6)


@pytest.mark.slow
@every_network
def test_a_file_declares_its_interface(published: Publish, name: str) -> None:
    input_name, dtype, row, output_name, width, task = INTERFACES[name]
    session = published(name).session()
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == (input_name, dtype, ["batch", *row])
    assert (made.name, made.type, made.shape) == (output_name, "tensor(float)", ["batch", width])

    entries = session.get_modelmeta().custom_metadata_map
    assert entries["sigmax.format"] == "1"
    assert entries.get("sigmax.task") == task
    assert list(json.loads(entries["sigmax.inputs"])) == [input_name]
    assert float(entries["sigmax.tolerance"]) == EXACT
    assert json.loads(entries["sigmax.producer"]) == {
        "sigmax-models": version("sigmax-models"),
        "torch": version("torch"),
        "onnx": version("onnx"),
        "onnxscript": version("onnxscript"),
        "opset": str(OPSET),
    }
    labels = json.loads(entries.get("sigmax.labels", "[]"))
    assert labels == list(published(name).network.declaration.labels)
    assert ("sigmax.thresholds" in entries) == (task == "binary")


@pytest.mark.slow
@every_network
@pytest.mark.parametrize("threads", [1, 2])
def test_onnx_runtime_answers_as_torch_and_alike_in_every_batch(
    published: Publish, name: str, threads: int
) -> None:
    network = published(name).network
    rows = {network.input: _repeat(published(name).trained.held_out, 64)}
    served = network.load(network.weights_path(published(name).repository))
    parity = measure(served, published(name).export.path.read_bytes(), rows, threads)
    assert parity.torch <= EXACT
    assert parity.alone == 0


def _repeat(rows: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([rows] * -(-count // len(rows)))[:count]


@pytest.mark.slow
@every_network
def test_golden_samples_hold_what_torch_answers(published: Publish, name: str) -> None:
    network, path = published(name).network, published(name).export.path
    served = network.load(network.weights_path(published(name).repository))
    folders = golden_folders(path)
    assert [folder.name for folder in folders] == ["test_data_set_0", "test_data_set_1"]
    for folder, rows in zip(folders, (1, 7), strict=True):
        input_name, given = read_tensor(folder / "input_0.pb")
        output_name, expected = read_tensor(folder / "output_0.pb")
        assert (input_name, output_name) == (network.input, network.declaration.output)
        assert len(given) == len(expected) == rows
        assert np.array_equal(answer_torch(served, {input_name: given}), expected)
        answer = answer_onnx(published(name).session(), {input_name: given})
        assert np.abs(answer - expected).max() <= EXACT


@pytest.mark.slow
@every_network
def test_a_file_says_nothing_of_the_machine_it_was_made_on(published: Publish, name: str) -> None:
    raw = published(name).export.path.read_bytes()
    for trace in (b'File "', b".py", b"site-packages", b"pkg.torch", b"sigmax_models", b"/home"):
        assert trace not in raw
    model = onnx.ModelProto.FromString(raw)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key.partition(".")[0] for entry in model.metadata_props} == {"sigmax"}
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert all(tensor.data_location == tensor.DEFAULT for tensor in model.graph.initializer)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mammal", "digits"])
def test_the_same_seed_makes_the_same_file(
    published: Publish, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, again = published(name), tmp_path_factory.mktemp("again")
    network = first.network
    torch.manual_seed(1234)  # what happened before must not matter
    export = network.publish(network.train(seed=0), again)
    assert export.path.read_bytes() == first.export.path.read_bytes()

    other = network.train(seed=1).module.state_dict()
    weights = first.trained.module.state_dict()
    assert not all(torch.equal(weights[key], other[key]) for key in weights)


def test_linear_is_w_x_plus_b() -> None:
    (sample,) = linear.unseen()
    by_hand = [
        sum(w * float(x) for w, x in zip(row, sample.row, strict=True)) + bias
        for row, bias in zip(linear.WEIGHT, linear.BIAS, strict=True)
    ]
    with torch.no_grad():
        answer = linear.build()(torch.from_numpy(sample.row))
    assert answer.tolist() == pytest.approx(by_hand, abs=1e-6)
    assert by_hand == pytest.approx(sample.expected, abs=5e-6)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("linear", [(3, 2)]),
        ("sequential", [(10, 18), (18, 20), (20, 5)]),
        ("mammal", [(6, 4), (4, 1)]),
        ("animal", [(6, 8), (8, 3)]),
    ],
)
def test_linear_layers_have_the_sizes_stated(name: str, sizes: list[tuple[int, int]]) -> None:
    layers = [
        layer
        for layer in networks.get(name).build().modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    assert [(layer.in_features, layer.out_features) for layer in layers] == sizes


def test_an_unknown_network_is_named_with_those_that_there_are() -> None:
    with pytest.raises(KeyError, match="no network is named 'fish'; there are linear, sequential"):
        networks.get("fish")


def test_the_table_of_animals_is_whole() -> None:
    table = animals.load()
    assert len(table.species) == len(set(table.species)) >= 60
    assert table.traits.shape == (len(table.species), 6)
    assert (table.traits > 0).all()
    assert (np.bincount(table.classes) >= 40).all()
    assert not {species for species, _, _ in animals.UNSEEN} & set(table.species)
    seen, held_out = animals.split()
    assert sorted(seen.species + held_out.species) == sorted(table.species)


def test_a_language_is_never_judged_by_translations_of_names_it_has_seen() -> None:
    seen, held_out = language.split()
    assert not {name.concept for name in seen} & {name.concept for name in held_out}
    assert not {name.text for name in seen} & {name.text for name in held_out}
    assert {name.language for name in seen} == set(range(len(language.LABELS)))
    assert {name.concept for name in held_out} >= set(language.ASKED)
    assert len(language.unseen()) == len(language.ASKED)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("Polska", b"Polska"),
        ("x" * 70, b"x" * 64),
        ("x" * 63 + "\u00e4", b"x" * 63),
        ("\u30bf\u30a4", "\u30bf\u30a4".encode()),
    ],
)
def test_text_is_padded_or_cut_at_a_whole_character(text: str, expected: bytes) -> None:
    row = language.encode(text)
    assert row.dtype == np.uint8
    assert row.shape == (64,)
    assert row.tobytes() == expected.ljust(64, b"\0")


@pytest.mark.parametrize("key", dtmf.LABELS)
def test_a_key_sounds_its_two_tones(key: str) -> None:
    sound = dtmf.press(dtmf.KEYPAD.index(key), np.random.default_rng(0))
    assert sound.dtype == np.int16
    assert sound.shape == (1600,)
    spectrum = np.abs(np.fft.rfft(sound))
    pitches = np.fft.rfftfreq(1600, 1 / dtmf.RATE)
    row, column = divmod("123A456B789C*0#D".index(key), 4)
    for band, frequency in ((pitches < 1075, dtmf.LOW[row]), (pitches >= 1075, dtmf.HIGH[column])):
        loudest = pitches[band][spectrum[band].argmax()]
        assert loudest == pytest.approx(frequency, rel=0.02)


def test_a_drawing_reads_as_it_is_drawn() -> None:
    for lines in digits.DRAWINGS.values():
        image = digits.read_drawing(lines)
        assert image.dtype == np.uint8
        assert image.shape == (8, 8)
        assert digits.draw(image) == "\n".join(lines)
