"""The protos: the Open Inference Protocol's are those of Triton's own client, and none breaks."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

PROTO = Path(__file__).parents[1] / "proto"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """The descriptors of proto/inference, by file name."""
    out = tmp_path_factory.mktemp("descriptors") / "inference.binpb"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={out}"]
    names = ["inference/grpc_service.proto", "inference/model_config.proto"]
    subprocess.run([*protoc, f"-I{PROTO}", *names], check=True)
    files = FileDescriptorSet.FromString(out.read_bytes()).file
    return {file.name.removeprefix("inference/"): file for file in files}


def tritons(module: str) -> FileDescriptorProto:
    """The descriptors inside tritonclient's generated `module`."""
    file = FileDescriptorProto()
    import_module(f"tritonclient.grpc.{module}").DESCRIPTOR.CopyToProto(file)
    return file


def comparable(file: FileDescriptorProto) -> FileDescriptorProto:
    """`file` without what no message depends on: folders, options of compilers, JSON names."""
    file = copy.deepcopy(file)
    file.name = file.name.removeprefix("inference/")
    file.dependency[:] = [name.removeprefix("inference/") for name in file.dependency]
    file.ClearField("options")
    drop_json_names(file.message_type)
    for service in file.service:
        for rpc in service.method:
            if not rpc.options.ByteSize():
                rpc.ClearField("options")
    return file


def drop_json_names(messages: Iterable[DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        drop_json_names(message.nested_type)


def drop_properties(file: FileDescriptorProto) -> None:
    """Removes the one field that the Open Inference Protocol has and Triton has not."""
    [metadata] = [m for m in file.message_type if m.name == "ModelMetadataResponse"]
    field = metadata.field.pop()
    entry = metadata.nested_type.pop()
    assert (field.name, field.number) == ("properties", 6)
    assert [f.type for f in entry.field] == [field.TYPE_STRING, field.TYPE_STRING]


def test_model_config_is_tritons(ours: dict[str, FileDescriptorProto]) -> None:
    assert comparable(ours["model_config.proto"]) == comparable(tritons("model_config_pb2"))


def test_service_is_tritons_with_properties(ours: dict[str, FileDescriptorProto]) -> None:
    service = comparable(ours["grpc_service.proto"])
    drop_properties(service)
    assert service == comparable(tritons("service_pb2"))


def breaks(folder: Path, file: str, old: str, new: str) -> str:
    """Return what `buf breaking` says of a change to a proto; empty where it breaks no client."""
    changed = folder / "proto"
    shutil.copytree(PROTO, changed)
    text = (changed / file).read_text()
    assert old in text
    (changed / file).write_text(text.replace(old, new, 1))
    command = [str(Path(sys.executable).with_name("buf")), "breaking", str(changed)]
    command += ["--against", str(PROTO / "released.binpb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("sigmax/v1/classifier.proto", "uint32 top_k = 4;", "uint32 top_k = 8;", '"top_k"'),
        ("sigmax/v1/classifier.proto", "string label = 2;", "bytes label = 2;", '"label"'),
        ("sigmax/v1/classifier.proto", "string label = 2;", "string text = 2;", '"text"'),
        ("sigmax/v1/classifier.proto", "  DATA_TYPE_BF16 = 11;", "", "DataType"),
        ("inference/grpc_service.proto", "string id = 3;", "string id = 99;", '"id"'),
    ],
)
def test_a_change_that_breaks_clients_is_found(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    found = breaks(tmp_path, file, old, new)
    assert f"/{file}:" in found
    assert said in found


def test_a_new_field_breaks_no_client(tmp_path: Path) -> None:
    head = "string head = 7;"
    added = f"{head}\n  string more = 8;"
    assert breaks(tmp_path, "sigmax/v1/classifier.proto", head, added) == ""
