from pathlib import Path

import pytest
from sigmax_server.graph import ContradictionError
from sigmax_server.location import Location
from sigmax_server.repository import Found, RepositoryError, reconfigured, scan, uploaded


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def scanned(*paths: Path) -> list[Found]:
    return scan([Location(path) for path in paths])


def only(found: list[Found]) -> Found:
    assert len(found) == 1
    return found[0]


def test_models_of_a_repository_come_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "b/1/model.onnx", tmp_path / "a/3/model.onnx")
    assert [(model.name, model.version, model.file) for model in scanned(tmp_path)] == [
        ("a", 3, tmp_path / "a/3/model.onnx"),
        ("b", 1, tmp_path / "b/1/model.onnx"),
    ]


def test_the_newest_version_is_served_by_number_not_by_text(tmp_path: Path) -> None:
    touch(*(tmp_path / f"a/{version}/model.onnx" for version in (1, 9, 10)))
    assert only(scanned(tmp_path)).version == 10


@pytest.mark.parametrize("name", ["0", "01", "-2", "v2", "2.0", "²", "9223372036854775808"])
def test_a_folder_that_is_no_version_is_ignored(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "a" / name / "model.onnx")
    assert only(scanned(tmp_path)).version == 1


def test_the_greatest_version_fits_64_bits(tmp_path: Path) -> None:
    touch(tmp_path / "a/9223372036854775807/model.onnx")
    assert only(scanned(tmp_path)).version == 2**63 - 1


def test_files_and_folders_that_are_no_models_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "README.md", tmp_path / "docs/images/one.png")
    touch(tmp_path / ".git/1/model.onnx", tmp_path / "lost+found/1/model.onnx")
    (tmp_path / "empty").mkdir()
    assert only(scanned(tmp_path)).name == "a"


def test_a_linked_model_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "store/1/model.onnx")
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/a").symlink_to(tmp_path / "store")
    model = only(scanned(tmp_path / "repository"))
    assert (model.name, model.file) == ("a", tmp_path / "repository/a/1/model.onnx")


def test_a_file_is_named_by_its_stem_and_has_version_1(tmp_path: Path) -> None:
    touch(tmp_path / "my.animal.onnx")
    model = only(scanned(tmp_path / "my.animal.onnx"))
    assert (model.name, model.version, model.file) == (
        "my.animal",
        1,
        tmp_path / "my.animal.onnx",
    )


def test_several_arguments_keep_their_order(tmp_path: Path) -> None:
    touch(tmp_path / "z.onnx", tmp_path / "repository/a/1/model.onnx")
    assert [model.name for model in scanned(tmp_path / "z.onnx", tmp_path / "repository")] == [
        "z",
        "a",
    ]


def test_one_name_twice_names_both_paths(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "repository/a/1/model.onnx")
    with pytest.raises(RepositoryError) as caught:
        scanned(tmp_path / "a.onnx", tmp_path / "repository")
    assert str(tmp_path / "a.onnx") in str(caught.value)
    assert str(tmp_path / "repository/a") in str(caught.value)


def test_golden_samples_lie_beside_the_model_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    version = tmp_path / "a/1"
    touch(version / "model.onnx", version / "test_data_set_x/input_0.pb")
    touch(*(version / f"test_data_set_{number}/input_0.pb" for number in (10, 9, 0)))
    assert only(scanned(tmp_path)).golden == (
        version / "test_data_set_0",
        version / "test_data_set_9",
        version / "test_data_set_10",
    )


def test_golden_samples_of_a_file_carry_its_name(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "a_test_data_set_0/input_0.pb")
    touch(tmp_path / "b_test_data_set_0/input_0.pb", tmp_path / "test_data_set_0/input_0.pb")
    assert only(scanned(tmp_path / "a.onnx")).golden == (tmp_path / "a_test_data_set_0",)


def test_a_file_called_model_has_the_plain_golden_samples(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx", tmp_path / "test_data_set_0/input_0.pb")
    assert only(scanned(tmp_path / "model.onnx")).golden == (tmp_path / "test_data_set_0",)


def configured(folder: Path, text: str, *versions: int) -> list[Found]:
    """What is found of a model with this configuration."""
    touch(*(folder / f"a/{version}/model.onnx" for version in versions))
    (folder / "a/config.pbtxt").write_text(text)
    return scanned(folder)


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


LABELS = 'output { name: "y" label_filename: "labels.txt" }'


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"great cat\nsmall dog\n", ("great cat", "small dog")),
        (b"great cat\nsmall dog", ("great cat", "small dog")),
        (b"\xef\xbb\xbfhen\r\ncock\r\n", ("hen", "cock")),
        (b"hen\ncock\n\r\n \n", ("hen", "cock")),
        (b"hen\n\ncock\n", ("hen", "", "cock")),
        ("a\x0bb\x0cc\x1cd\x85e\u2028f\rg\nz".encode(), ("a\x0bb\x0cc\x1cd\x85e\u2028f\rg", "z")),
        (b"", ()),
    ],
)
def test_label_files_have_a_class_a_line_whatever_the_editor(
    tmp_path: Path, content: bytes, labels: tuple[str, ...]
) -> None:
    touch(tmp_path / "a/labels.txt")
    (tmp_path / "a/labels.txt").write_bytes(content)
    assert only(configured(tmp_path, LABELS, 1)).labels == {"y": labels}
    config = {"output": [{"name": "y", "label_filename": "labels.txt"}]}
    sent = uploaded("a", config, {"1/model.onnx": b"", "labels.txt": content})
    assert only(sent).labels == {"y": labels}


@pytest.mark.parametrize(
    ("content", "came"),
    [
        ("hen\ncock".encode("utf-16"), "got UTF-16 or zero bytes; save it as UTF-8"),
        ("hen\ncock".encode("utf-16-be"), "got UTF-16 or zero bytes; save it as UTF-8"),
        (b"hen\nH\xe4hnchen", "got the byte 0xe4 in line 2; save it as UTF-8"),
    ],
)
def test_text_that_is_not_utf_8_says_how_to_save_it(
    tmp_path: Path, content: bytes, came: str
) -> None:
    touch(tmp_path / "a/labels.txt", tmp_path / "b/1/model.onnx")
    (tmp_path / "a/labels.txt").write_bytes(content)
    (tmp_path / "b/config.pbtxt").write_bytes(content)
    labels, config = configured(tmp_path, LABELS, 1)
    assert labels.problem == f"label_filename: 'labels.txt': expected UTF-8 text, {came}"
    assert config.problem == f"{tmp_path / 'b/config.pbtxt'}: expected UTF-8 text, {came}"


def test_a_configuration_may_be_written_by_any_editor(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "a/2/model.onnx")
    text = b"\xef\xbb\xbfversion_policy {\r\n  all { }\r\n}\r\n"
    (tmp_path / "a/config.pbtxt").write_bytes(text)
    assert [(model.version, model.problem) for model in scanned(tmp_path)] == [(1, ""), (2, "")]


def test_links_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    """A ConfigMap's files are links to its folder `..data`, a link itself."""
    store, model = tmp_path / "store", tmp_path / "repository/a"
    touch(store / "labels.txt", store / "model.onnx", model / "1/keep")
    (store / "labels.txt").write_text("hen\ncock\n")
    (store / "config.pbtxt").write_text(LABELS)
    (model / "..data").symlink_to(store)
    for file in ("config.pbtxt", "labels.txt"):
        (model / file).symlink_to(f"..data/{file}")
    (model / "1/model.onnx").symlink_to("../..data/model.onnx")
    found = only(scanned(tmp_path / "repository"))
    assert (found.labels, found.problem) == ({"y": ("hen", "cock")}, "")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """So it is where a cache is mounted without its blobs."""
    touch(tmp_path / "a/1/keep")
    (tmp_path / "a/1/model.onnx").symlink_to("../../blobs/4f2a")
    expected = f"{tmp_path / 'a/1/model.onnx'} is a link to ../../blobs/4f2a, which is missing"
    assert only(scanned(tmp_path)).problem == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_batch: 8", "max_batch"),
        ("max_batch_size: cat", "expected"),
        ('backend: "python"', "backend: expected 'onnxruntime', got 'python'"),
        ('output { name: "y" label_filename: "none.txt" }', "none.txt"),
        ('output { name: "y" label_filename: "../../key" }', "expected a file in the model's"),
        ('output { name: "y" label_filename: "/etc/hostname" }', "expected a file in the model's"),
        ('output { name: "y" label_filename: "1" }', "'1': expected a file, got a folder"),
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
    broken, good = scanned(tmp_path)
    assert (broken.name, broken.version, broken.file) == ("a", 1, None)
    assert f"expected a version in {tmp_path / 'a'}" in broken.problem
    assert broken.problem.endswith(came)
    assert good.problem == ""


def test_a_version_without_a_model_does_not_fall_back_to_an_older_one(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "a/2/model.pt")
    model = only(scanned(tmp_path))
    assert (model.version, model.file) == (2, None)
    assert model.problem == f"there is no file {tmp_path / 'a/2/model.onnx'}"


def test_a_missing_file_is_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    touch(tmp_path / "b.onnx")
    missing, good = scanned(tmp_path / "a.onnx", tmp_path / "b.onnx")
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
        scanned(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert str(caught.value).endswith(came)


def test_an_empty_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match=r"NAME/VERSION/model\.onnx, got none$"):
        scanned(tmp_path)


def test_a_single_model_given_as_repository_says_what_to_serve(tmp_path: Path) -> None:
    touch(tmp_path / "a/1/model.onnx", tmp_path / "b/model.onnx")
    for folder, instead in (("a", tmp_path), ("b", tmp_path / "b/model.onnx")):
        with pytest.raises(RepositoryError) as caught:
            scanned(tmp_path / folder)
        assert str(caught.value).endswith(
            f"got a single model; serve {instead} instead, or name the model by --model-name, or "
            f"as NAME={tmp_path / folder}"
        )


def named(folder: Path, *, may_be_empty: bool = False) -> list[Found]:
    return scan([Location(folder, "animal")], may_be_empty=may_be_empty)


def test_a_folder_with_a_name_is_one_model(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx", tmp_path / "test_data_set_0/input_0.pb")
    (tmp_path / "labels.txt").write_text("hen\ncock\n")
    (tmp_path / "config.pbtxt").write_text(f'name: "animal" {LABELS}')
    model = only(named(tmp_path))
    assert (model.name, model.version, model.problem) == ("animal", 1, "")
    assert (model.file, model.labels) == (tmp_path / "model.onnx", {"y": ("hen", "cock")})
    assert model.golden == (tmp_path / "test_data_set_0",)


def test_a_folder_with_a_name_may_have_versions(tmp_path: Path) -> None:
    touch(tmp_path / "1/model.onnx", tmp_path / "9/model.onnx", tmp_path / "10/model.onnx")
    touch(tmp_path / "model.onnx")
    assert only(named(tmp_path)).file == tmp_path / "10/model.onnx"
    (tmp_path / "config.pbtxt").write_text("version_policy { latest { num_versions: 2 } }")
    assert [(model.name, model.version) for model in named(tmp_path)] == [
        ("animal", 9),
        ("animal", 10),
    ]


def test_a_folder_with_a_name_names_its_file_in_its_configuration(tmp_path: Path) -> None:
    touch(tmp_path / "net.onnx", tmp_path / "net_test_data_set_0/input_0.pb")
    (tmp_path / "config.pbtxt").write_text('default_model_filename: "net.onnx"')
    model = only(named(tmp_path))
    assert (model.file, model.golden) == (
        tmp_path / "net.onnx",
        (tmp_path / "net_test_data_set_0",),
    )


def test_a_folder_with_a_name_has_only_version_1(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx")
    (tmp_path / "config.pbtxt").write_text("version_policy { specific { versions: [ 1, 3 ] } }")
    one, missing = named(tmp_path)
    assert (one.version, one.problem) == (1, "")
    assert missing.problem == f"there is no file {tmp_path / '3/model.onnx'}"


def test_the_configuration_of_a_folder_with_a_name_has_no_other(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx")
    (tmp_path / "config.pbtxt").write_text('name: "plant"')
    assert "name: expected 'animal', got 'plant'" in only(named(tmp_path)).problem


@pytest.mark.parametrize(
    ("file", "came"),
    [
        ("notes.txt", "got none"),
        ("net.onnx", "got none but .onnx files; name them one by one, such as {}/net.onnx"),
        ("onnx/model.onnx", "got none but {0}/onnx/model.onnx; serve {0}/onnx instead"),
        ("plant/1/model.onnx", "got a repository of ['plant']; serve it without a name"),
    ],
)
def test_a_folder_with_a_name_that_is_no_model_says_what_it_is(
    tmp_path: Path, file: str, came: str
) -> None:
    touch(tmp_path / file)
    with pytest.raises(RepositoryError) as caught:
        named(tmp_path)
    expected = f"{tmp_path}: expected the model 'animal', as model.onnx or 1/model.onnx, "
    assert str(caught.value) == expected + came.format(tmp_path)
    assert named(tmp_path, may_be_empty=True) == []


def test_a_file_may_be_named(tmp_path: Path) -> None:
    touch(tmp_path / "a\nb.onnx", tmp_path / "a\nb_test_data_set_0/input_0.pb")
    model = only(named(tmp_path / "a\nb.onnx"))
    assert (model.name, model.version, model.problem) == ("animal", 1, "")
    assert model.golden == (tmp_path / "a\nb_test_data_set_0",)


def test_a_name_that_was_given_is_there_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx", tmp_path / "model.onnx")
    with pytest.raises(RepositoryError, match=r"'a' twice: .*; NAME=PATH names a model$"):
        scan([Location(tmp_path / "a.onnx"), Location(tmp_path / "model.onnx", "a")])


def test_another_configuration_keeps_the_place_of_a_model(tmp_path: Path) -> None:
    touch(tmp_path / "model.onnx", tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_text("hen\ncock\n")
    config = {"output": [{"name": "y", "label_filename": "labels.txt"}]}
    for path in (tmp_path, tmp_path / "model.onnx"):
        model = only(reconfigured(named(path), config))
        assert (model.file, model.labels, model.config) == (
            tmp_path / "model.onnx",
            {"y": ("hen", "cock")},
            config,
        )
    missing = only(reconfigured(named(tmp_path), {"default_model_filename": "net.onnx"}))
    assert missing.problem == f"there is no file {tmp_path / 'net.onnx'}"


def test_another_configuration_gives_no_version_to_a_model_without_one(tmp_path: Path) -> None:
    touch(tmp_path / "a/model.onnx")
    with pytest.raises(ContradictionError, match="expected a version in"):
        reconfigured(scanned(tmp_path), {})


def test_a_folder_of_files_given_as_repository_says_what_to_serve(tmp_path: Path) -> None:
    touch(tmp_path / "a.onnx")
    with pytest.raises(RepositoryError) as caught:
        scanned(tmp_path)
    assert str(caught.value).endswith(f"name them one by one, such as {tmp_path / 'a.onnx'}")


def test_a_name_that_cannot_be_printed_is_that_models_problem(tmp_path: Path) -> None:
    touch(tmp_path / "a\nb/1/model.onnx", tmp_path / "c/1/model.onnx")
    odd, good = scanned(tmp_path)
    assert odd.name == r"a\nb"
    assert "expected a printable name" in odd.problem
    assert (good.name, good.problem) == ("c", "")
