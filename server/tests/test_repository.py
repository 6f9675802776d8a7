from pathlib import Path

import pytest
from sigmax_server.repository import Found, RepositoryError, scan


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def only(found: list[Found]) -> Found:
    assert len(found) == 1
    return found[0]


def test_models_of_a_repository_come_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "b/1/model.onnx", tmp_path / "a/3/model.onnx")
    assert [(model.name, model.version, model.file) for model in scan([tmp_path])] == [
        ("a", 3, tmp_path / "a/3/model.onnx"),
        ("b", 1, tmp_path / "b/1/model.onnx"),
    ]


def test_the_newest_version_is_served_by_number_not_by_text(tmp_path: Path) -> None:
    touch(*(tmp_path / f"a/{version}/model.onnx" for version in (1, 9, 10)))
    assert only(scan([tmp_path])).version == 10


@pytest.mark.parametrize("name", ["0", "01", "-2", "v2", "2.0", "²", "9223372036854775808"])
def test_a_folder_that_is_no_version_is_ignored(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "a" / name / "model.onnx")
    assert only(scan([tmp_path])).version == 1


def test_the_greatest_version_fits_64_bits(tmp_path: Path) -> None:
    touch(tmp_path / "a/9223372036854775807/model.onnx")
    assert only(scan([tmp_path])).version == 2**63 - 1


def test_files_and_folders_that_are_no_models_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "README.md", tmp_path / "docs/images/one.png")
    touch(tmp_path / ".git/1/model.onnx", tmp_path / "lost+found/1/model.onnx")
    (tmp_path / "empty").mkdir()
    assert only(scan([tmp_path])).name == "a"


def test_a_linked_model_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "store/1/model.onnx")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/a").symlink_to(tmp_path / "store")
    model = only(scan([tmp_path / "repository"]))
    assert (model.name, model.file) == ("a", tmp_path / "repository/a/1/model.onnx")


def test_a_file_is_named_by_its_stem_and_has_version_1(tmp_path: Path) -> None:
    touch(tmp_path / "my.animal.onnx")
    model = only(scan([tmp_path / "my.animal.onnx"]))
    assert (model.name, model.version, model.file) == (
        "my.animal",
        1,
        tmp_path / "my.animal.onnx",
    )


def test_several_arguments_keep_their_order(tmp_path: Path) -> None:
    touch(tmp_path / "z.onnx", tmp_path / "repository/a/1/model.onnx")
    assert [model.name for model in scan([tmp_path / "z.onnx", tmp_path / "repository"])] == [
        "z",
        "a",
    ]


def test_one_name_twice_names_both_paths(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "repository/a/1/model.onnx")
    with pytest.raises(RepositoryError) as caught:
        scan([tmp_path / "a.onnx", tmp_path / "repository"])
    assert str(tmp_path / "a.onnx") in str(caught.value)
    assert str(tmp_path / "repository/a") in str(caught.value)


def test_golden_samples_lie_beside_the_model_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    version = tmp_path / "a/1"
    touch(version / "model.onnx", version / "test_data_set_x/input_0.pb")
    touch(*(version / f"test_data_set_{number}/input_0.pb" for number in (10, 9, 0)))
    assert only(scan([tmp_path])).golden == (
        version / "test_data_set_0",
        version / "test_data_set_9",
        version / "test_data_set_10",
    )


def test_golden_samples_of_a_file_carry_its_name(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "a_test_data_set_0/input_0.pb")
    touch(tmp_path / "b_test_data_set_0/input_0.pb", tmp_path / "test_data_set_0/input_0.pb")
    assert only(scan([tmp_path / "a.onnx"])).golden == (tmp_path / "a_test_data_set_0",)


def test_a_file_called_model_has_the_plain_golden_samples(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx", tmp_path / "test_data_set_0/input_0.pb")
    assert only(scan([tmp_path / "model.onnx"])).golden == (tmp_path / "test_data_set_0",)


def configured(folder: Path, text: str, *versions: int) -> list[Found]:
    """What is found of a model with this configuration."""
    touch(*(folder / f"a/{version}/model.onnx" for version in versions))
    (folder / "a/config.pbtxt").write_text(text)
    return scan([folder])


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", [10]),
        ("version_policy { latest { num_versions: 2 } }", [9, 10]),
        ("version_policy { latest { } }", [10]),
        ("version_policy { all { } }", [1, 9, 10]),
        ("version_policy { specific { versions: [ 9, 1 ] } }", [1, 9]),
    ],
)
def test_the_configuration_says_which_versions(
    tmp_path: Path, policy: str, versions: list[int]
) -> None:
    found = configured(tmp_path, policy, 1, 9, 10)
    assert [(model.name, model.version, model.problem) for model in found] == [
        ("a", version, "") for version in versions
    ]


def test_a_version_that_is_asked_for_and_missing_is_a_problem(tmp_path: Path) -> None:
    found = configured(tmp_path, "version_policy { specific { versions: [ 1, 3 ] } }", 1)
    assert [model.problem for model in found] == [
        "",
        f"there is no file {tmp_path / 'a/3/model.onnx'}",
    ]


def test_the_configuration_names_the_file(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/net.onnx")
    model = only(configured(tmp_path, 'default_model_filename: "net.onnx"'))
    assert model.file == tmp_path / "a/1/net.onnx"


def test_label_files_have_a_class_a_line(tmp_path: Path) -> None:
    touch(tmp_path / "a/labels.txt")
    (tmp_path / "a/labels.txt").write_text("great cat\nsmall dog\n")
    model = only(configured(tmp_path, 'output { name: "y" label_filename: "labels.txt" }', 1))
    assert model.labels == {"y": ("great cat", "small dog")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_batch: 8", "max_batch"),
        ("max_batch_size: cat", "expected"),
        ('backend: "python"', "backend: expected 'onnxruntime', got 'python'"),
        ('output { name: "y" label_filename: "none.txt" }', "none.txt"),
        ('output { name: "y" label_filename: "../../key" }', "expected a file in"),
    ],
)
def test_a_broken_configuration_is_a_problem_of_its_model(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert problem in only(configured(tmp_path, text, 1)).problem


@pytest.mark.parametrize(
    ("stray", "came"),
    [
        ("01/model.onnx", "got 01/model.onnx"),
        ("model.onnx", "got model.onnx"),
        ("config.pbtxt", "got none"),
    ],
)
def test_a_model_without_a_version_is_named_and_the_others_are_kept(
    tmp_path: Path, stray: str, came: str
) -> None:
    touch(tmp_path / "a" / stray, tmp_path / "b/1/model.onnx")
    broken, good = scan([tmp_path])
    assert (broken.name, broken.version, broken.file) == ("a", 1, None)
    assert f"expected a version in {tmp_path / 'a'}" in broken.problem
    assert broken.problem.endswith(came)
    assert good.problem == ""


def test_a_version_without_a_model_does_not_fall_back_to_an_older_one(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "a/2/model.pt")
    model = only(scan([tmp_path]))
    assert (model.version, model.file) == (2, None)
    assert model.problem == f"there is no file {tmp_path / 'a/2/model.onnx'}"


def test_a_missing_file_is_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    touch(tmp_path / "b.onnx")
    missing, good = scan([tmp_path / "a.onnx", tmp_path / "b.onnx"])
    assert (missing.name, missing.file) == ("a", None)
    assert missing.problem == f"there is no file {tmp_path / 'a.onnx'}"
    assert good.file == tmp_path / "b.onnx"


@pytest.mark.parametrize(
    ("name", "came"), [("missing", "got nothing there"), ("notes.txt", "got another kind of file")]
)
def test_what_is_neither_folder_nor_model_file_is_an_error(
    tmp_path: Path, name: str, came: str
) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(RepositoryError) as caught:
        scan([tmp_path / name])
    assert str(caught.value).startswith(str(tmp_path / name))
    assert str(caught.value).endswith(came)


def test_an_empty_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"NAME/VERSION/model\.onnx, got none$"):
        scan([tmp_path])


def test_a_single_model_given_as_repository_says_what_to_serve(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx")
    with pytest.raises(RepositoryError) as caught:
        scan([tmp_path / "a"])
    assert str(caught.value).endswith(f"got a single model; serve {tmp_path} instead")


def test_a_folder_of_files_given_as_repository_says_what_to_serve(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx")
    with pytest.raises(RepositoryError) as caught:
        scan([tmp_path])
    assert str(caught.value).endswith(f"name them one by one, such as {tmp_path / 'a.onnx'}")


def test_a_name_that_cannot_be_printed_is_that_models_problem(tmp_path: Path) -> None:
    touch(tmp_path / "a\nb/1/model.onnx", tmp_path / "c/1/model.onnx")
    odd, good = scan([tmp_path])
    assert odd.name == r"a\nb"
    assert "expected a printable name" in odd.problem
    assert (good.name, good.problem) == ("c", "")
