"""Names of the protocol's enum values. A value newer than this SDK is named by its number."""

from functools import lru_cache

from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from sigmax.v1 import classifier_pb2 as pb


@lru_cache(maxsize=64)
def dtype_name(number: int) -> str:
    """Return the name of a dtype, such as "FP32"."""
    return _name(pb.DataType, number, "DATA_TYPE_")


def task_name(number: int) -> str | None:
    """Return the name of a task, such as "multiclass"; None where no task is declared."""
    if number == pb.TASK_UNSPECIFIED:
        return None
    return _name(pb.Task, number, "TASK_").lower()


def state_name(number: int) -> str:
    """Return the name of a version's state, such as "ready"."""
    return _name(pb.ModelState, number, "MODEL_STATE_").lower()


def _name(enum: EnumTypeWrapper, number: int, prefix: str) -> str:
    try:
        return enum.Name(number).removeprefix(prefix)
    except ValueError:
        return str(number)
