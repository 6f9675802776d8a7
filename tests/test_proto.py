"""The Open Inference Protocol's descriptors are those of Triton's own client."""

import copy
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
