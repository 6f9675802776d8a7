"""The choice of devices, from the flag, the devices that work and the configurations."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigmax_server._native import NativeError
from sigmax_server.config import ServerConfig
from sigmax_server.cuda import Driver, Gpu, Library
from sigmax_server.device import Cuda, DeviceError, Devices, Group
from sigmax_server.model_spec import Placement
from sigmax_server.setting import ConfigError, named_devices

CPU = (Placement("cpu", 0),)
TWO = Driver("580.65.06", (13, 0), tuple(Gpu(n, f"GPU {n}", 2**36, "9.0") for n in range(2)))
BROKEN = Library("libcublas.so.13", "", "", "not found")
LATER = Library("libcudnn.so.9", "convolutions and pooling", "", "not found")


def cuda(
    tmp_path: Path,
    driver: Driver = TWO,
    libraries: tuple[Library, ...] = (),
    fails: tuple[str, ...] = (),
    provider: bool = True,
) -> Cuda:
    """CUDA as it may be found, where trial runs fail on some devices."""

    def trial(device: str) -> None:
        if device in fails:
            raise NativeError(f"{device}: out of\nmemory")

    if provider:
        (tmp_path / "libonnxruntime_providers_cuda.so").touch()
    result = Cuda(tmp_path / "libonnxruntime.so.1", trial)
    # As if they had been looked at already.
    vars(result).update(driver=driver, libraries=list(libraries), major=13, folders=[Path("/c")])
    return result


numbers = st.lists(st.integers(0, 999), min_size=1, unique=True)


@given(numbers)
def test_several_gpus_are_named_by_their_numbers(given_numbers: list[int]) -> None:
    text = "cuda:" + ",".join(map(str, given_numbers))
    assert named_devices(text) == tuple(f"cuda:{number}" for number in given_numbers)
    assert ServerConfig(device=text).device == text


@given(st.lists(st.integers(0, 999), min_size=2).filter(lambda them: len(set(them)) < len(them)))
def test_a_gpu_that_is_named_twice_is_refused(given_numbers: list[int]) -> None:
    with pytest.raises(ConfigError, match="several as cuda:0,1, got"):
        ServerConfig(device="cuda:" + ",".join(map(str, given_numbers)))


@given(st.text(st.sampled_from("auto cpuda:,01-x\n")))
def test_a_device_is_what_it_says_or_refused(text: str) -> None:
    try:
        named = named_devices(text)
    except ValueError:
        with pytest.raises(ConfigError):
            ServerConfig(device=text)
    else:
        assert text in ("auto", "cpu", "cuda", "cuda:" + ",".join(name[5:] for name in named))


def test_short_names() -> None:
    assert [named_devices(text) for text in ("auto", "cpu", "cuda")] == [(), ("cpu",), ("cuda:0",)]


def test_the_cpu_needs_nothing_of_cuda(tmp_path: Path) -> None:
    class Untouched(Cuda):
        driver = property(lambda _: pytest.fail("the driver was asked"))

    devices = Devices("cpu", Untouched(tmp_path / "libonnxruntime.so.1"))
    assert devices.choice.placements == (CPU,)
    assert str(devices.choice) == "cpu (--device cpu)"
    assert devices.place([Group("KIND_CPU", 3)]).placements == ((Placement("cpu", 3),),)
    # Nor does `auto`, where ONNX Runtime has no provider.
    devices = Devices("auto", Untouched(tmp_path / "libonnxruntime.so.1"))
    assert str(devices.choice) == "cpu (auto: the installed ONNX Runtime has no CUDA provider)"


def test_auto_takes_gpu_or_cpu_whichever_is_better(tmp_path: Path) -> None:
    choice = Devices("auto", cuda(tmp_path, libraries=(LATER,))).choice
    assert choice.placements == ((Placement("cuda:0", 1),), CPU)
    assert str(choice) == (
        "cuda:0 or cpu (auto: for each model that which takes more rows a second; GPU 0)"
    )


def test_auto_takes_the_first_gpu_that_works(tmp_path: Path) -> None:
    choice = Devices("auto", cuda(tmp_path, fails=("cuda:0",))).choice
    assert choice.placements[0] == (Placement("cuda:1", 1),)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"provider": False}, "the installed ONNX Runtime has no CUDA provider"),
        (
            {"driver": Driver(problem="libcuda.so.1: not there")},
            "NVIDIA's driver cannot be used: libcuda.so.1: not there",
        ),
        (
            {"driver": Driver("535.104.05", (12, 2), TWO.gpus)},
            "NVIDIA's driver 535.104.05 runs CUDA up to 12.2, and the installed ONNX Runtime needs",
        ),
        (
            {"libraries": (BROKEN, LATER)},
            "CUDA's libraries cannot be loaded (libcublas.so.13 not found); looked for in /c, the",
        ),
        ({"fails": ("cuda:0", "cuda:1")}, "a trial run failed: cuda:0: out of memory"),
    ],
)
def test_auto_says_why_it_is_the_cpu_and_a_named_device_is_an_error(
    tmp_path: Path, found: dict[str, object], why: str
) -> None:
    there = cuda(tmp_path, **found)  # type: ignore[arg-type]
    choice = Devices("auto", there).choice
    assert choice.placements == (CPU,)
    assert choice.reason.startswith(f"auto: {why}")
    for device in ("cuda", "cuda:0", "cuda:0,1"):
        with pytest.raises(DeviceError, match=re.escape(f"cuda:0 cannot be used: {why}")):
            _ = Devices(device, there).choice


def test_an_error_has_everything_that_is_missing_and_what_mends_it(tmp_path: Path) -> None:
    driver = Driver(problem="libcuda.so.1: not there")
    with pytest.raises(DeviceError) as caught:
        _ = Devices("cuda", cuda(tmp_path, driver, (BROKEN,), provider=False)).choice
    said = str(caught.value)
    for part in (
        'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "sigmax-server[gpu]"',
        "install version 580 or newer, for CUDA 13; a container needs NVIDIA's container toolkit",
        'install them with pip install "sigmax-server[gpu]", or set CUDA_HOME to a toolkit of CUDA',
    ):
        assert part in said


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^cuda:2 cannot .* no such GPU; .* cuda:0, cuda:1$"):
        _ = Devices("cuda:0,2", cuda(tmp_path)).choice


def test_named_gpus_have_an_engine_each(tmp_path: Path) -> None:
    choice = Devices("cuda:1,0", cuda(tmp_path)).choice
    assert choice.placements == ((Placement("cuda:1", 1), Placement("cuda:0", 1)),)
    assert str(choice) == "cuda:1 and cuda:0 (--device cuda:1,0)"


@pytest.mark.parametrize(
    ("flag", "group", "placements"),
    [
        ("cuda:0,1", Group("KIND_CPU"), [CPU]),
        ("cuda:0,1", Group("KIND_GPU"), [(Placement("cuda:0", 1), Placement("cuda:1", 1))]),
        ("cuda:1", Group("KIND_GPU", 2), [(Placement("cuda:1", 2),)]),
        ("cuda:1", Group("KIND_GPU", 2, (0,)), [(Placement("cuda:0", 2),)]),
        ("cpu", Group("KIND_GPU"), [(Placement("cuda:0", 1), Placement("cuda:1", 1))]),
        ("auto", Group("KIND_GPU", 1), [(Placement("cuda:0", 1), Placement("cuda:1", 1))]),
        ("cuda", Group("KIND_AUTO"), [(Placement("cuda:0", 1),)]),
        ("cpu", Group("KIND_AUTO", 2), [(Placement("cpu", 2),)]),
        ("auto", Group("KIND_AUTO", 2), [(Placement("cuda:0", 2),), (Placement("cpu", 2),)]),
    ],
)
def test_an_instance_group_overrules_the_flag(
    tmp_path: Path, flag: str, group: Group, placements: list[tuple[Placement, ...]]
) -> None:
    choice = Devices(flag, cuda(tmp_path)).place([group])
    assert list(choice.placements) == placements
    assert choice.reason == f"instance_group: {group.kind}"


def test_several_groups_run_beside_each_other(tmp_path: Path) -> None:
    groups = [Group("KIND_GPU", 1, (1,)), Group("KIND_AUTO"), Group("KIND_CPU", 2)]
    choice = Devices("auto", cuda(tmp_path)).place(groups)
    gpu, cpu = Placement("cuda:1", 1), Placement("cpu", 2)
    assert choice.placements == ((gpu, Placement("cuda:0", 1), cpu), (gpu, *CPU, cpu))


def test_groups_that_leave_it_open_run_at_the_same_place(tmp_path: Path) -> None:
    choice = Devices("auto", cuda(tmp_path)).place([Group("KIND_AUTO", 2)] * 40)
    assert choice.placements == ((Placement("cuda:0", 2),) * 40, (Placement("cpu", 2),) * 40)


def test_a_model_without_a_group_runs_where_the_flag_says(tmp_path: Path) -> None:
    devices = Devices("cuda", cuda(tmp_path))
    assert devices.place([]) is devices.choice


@pytest.mark.parametrize(
    ("group", "text"),
    [
        (Group("KIND_GPU"), "no GPU can be used: the installed ONNX Runtime has no CUDA provider"),
        (Group("KIND_GPU", 1, (1,)), "cuda:1 cannot be used: the installed ONNX Runtime has no"),
    ],
)
def test_a_group_of_gpus_needs_one_that_works(tmp_path: Path, group: Group, text: str) -> None:
    with pytest.raises(DeviceError, match=f"^{text}"):
        Devices("cpu", cuda(tmp_path, provider=False)).place([group])


def test_who_installed_the_provider_hears_what_is_missing(tmp_path: Path) -> None:
    driver = Driver(problem="libcuda.so.1: not there")
    text = "models run on the CPU (auto: NVIDIA's driver cannot be used: libcuda.so.1: not there)"
    assert Devices("auto", cuda(tmp_path, driver)).warnings() == [text]
    assert Devices("cpu", cuda(tmp_path, driver)).warnings() == []
    text = "libcudnn.so.9 not found; some networks need it, for convolutions and pooling"
    for flag in ("auto", "cuda"):
        assert Devices(flag, cuda(tmp_path, libraries=(LATER,))).warnings() == [text]


def test_who_did_not_hears_nothing(tmp_path: Path) -> None:
    assert Devices("auto", cuda(tmp_path, provider=False)).warnings() == []


def test_a_trial_runs_once_a_device(tmp_path: Path) -> None:
    tried: list[str] = []
    there = cuda(tmp_path)
    there._trial = tried.append
    devices = Devices("auto", there)
    devices.place([Group("KIND_GPU")])
    devices.place([Group("KIND_GPU", 2, (0,)), Group("KIND_AUTO")])
    assert tried == ["cuda:0", "cuda:1"]
