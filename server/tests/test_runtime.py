import re
from pathlib import Path

import pytest
from sigmax_server.runtime import RuntimeLibraryError, find_runtime

MEND = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "sigmax-server[cpu]"'


def install(site: Path, *records: str, libraries: tuple[str, ...]) -> Path:
    """A site folder in which a wheel of ONNX Runtime is installed that must not be imported."""
    capi = site / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (site / "onnxruntime" / "__init__.py").write_text("raise AssertionError('was imported')")
    for record in records:
        (site / f"{record}.dist-info").mkdir()
    for library in libraries:
        (capi / library).touch()
    return site


@pytest.mark.parametrize("record", ["onnxruntime-1.32.0", "onnxruntime_gpu-1.31.1"])
def test_the_library_of_either_wheel_is_found_without_importing_it(
    tmp_path: Path, record: str
) -> None:
    site = install(
        tmp_path,
        record,
        libraries=("libonnxruntime.so.1.32.0", "libonnxruntime_providers_shared.so"),
    )
    found = find_runtime([str(tmp_path / "missing"), str(site)])
    assert found == site.resolve() / "onnxruntime/capi/libonnxruntime.so.1.32.0"
    assert found.is_absolute()


def test_none_installed_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RuntimeLibraryError, match=re.escape('pip install "sigmax-server[cpu]"')):
        find_runtime([str(tmp_path)])


def test_both_installed_are_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    site = install(
        tmp_path,
        "onnxruntime-1.32.0",
        "onnxruntime_gpu-1.31.1",
        libraries=("libonnxruntime.so.1.32.0",),
    )
    with pytest.raises(RuntimeLibraryError) as caught:
        find_runtime([str(site)])
    assert "onnxruntime-1.32.0.dist-info and onnxruntime_gpu-1.31.1.dist-info" in str(caught.value)
    assert MEND in str(caught.value)


def test_another_distribution_with_a_similar_name_is_no_second_runtime(tmp_path: Path) -> None:
    site = install(
        tmp_path,
        "onnxruntime-1.32.0",
        "onnxruntime_extensions-0.14.0",
        libraries=("libonnxruntime.so.1.32.0",),
    )
    assert find_runtime([str(site)]).name == "libonnxruntime.so.1.32.0"


@pytest.mark.parametrize(
    ("libraries", "came"),
    [
        ((), "found none"),
        (
            ("libonnxruntime.so.1.31.1", "libonnxruntime.so.1.32.0"),
            "found libonnxruntime.so.1.31.1, libonnxruntime.so.1.32.0",
        ),
    ],
)
def test_a_damaged_installation_is_named(
    tmp_path: Path, libraries: tuple[str, ...], came: str
) -> None:
    site = install(tmp_path, "onnxruntime-1.32.0", libraries=libraries)
    with pytest.raises(RuntimeLibraryError) as caught:
        find_runtime([str(site)])
    assert came in str(caught.value)
    assert MEND in str(caught.value)


def test_the_installed_runtime_is_found() -> None:
    assert find_runtime().name.startswith("libonnxruntime.so.")
