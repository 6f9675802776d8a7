"""The names that the SDK uses for the wire's enums. A number newer than this SDK stays a number."""

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from sigmax.v1 import classifier_pb2 as pb


def dtype_name(number: int) -> str:
    """Such as "FP32"."""
    return _name(pb.DataType, number, "DATA_TYPE_")


def task_name(number: int) -> str | None:
    """Such as "multiclass"; None where no task is declared."""
    if number == pb.TASK_UNSPECIFIED:
        return None
    return _name(pb.Task, number, "TASK_").lower()


def state_name(number: int) -> str:
    """Such as "ready"."""
    return _name(pb.ModelState, number, "MODEL_STATE_").lower()


def _name(enum: EnumTypeWrapper, number: int, prefix: str) -> str:
    if number not in enum.values():
        return str(number)
    return enum.Name(number).removeprefix(prefix)
