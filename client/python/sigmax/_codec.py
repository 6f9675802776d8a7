"""Conversion of values to requests, and of replies to results. Nothing here sends or waits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from numpy.typing import ArrayLike

from sigmax import _tensor
from sigmax._enums import dtype_name, state_name, task_name
from sigmax._errors import InvalidInput, NotSupported, SigmaxError
from sigmax._model import Model, ModelSummary, ModelVersion, TensorSpec
from sigmax._result import Result
from sigmax.v1 import classifier_pb2 as pb

Inputs: TypeAlias = ArrayLike | Mapping[str, ArrayLike]
"""Values of one row or of a batch: lists, arrays, or any object with `__array__`.

Values of a model with several inputs are a dict of them by name.
"""

# Reasons of errors, the server's and our own, that mean: the inputs do not fit the description.
_OF_DESCRIPTION = {
    "BAD_ELEMENT",
    "BYTE_SIZE_MISMATCH",
    "DTYPE_MISMATCH",
    "MISSING_INPUT",
    "SHAPE_MISMATCH",
    "UNEXPECTED_INPUT",
}


@dataclass(frozen=True, slots=True)
class Question:
    """The options of a classify call, without the rows."""

    model: str
    version: str
    top_k: int
    threshold: float | None
    return_probabilities: bool

    def __post_init__(self) -> None:
        if not 0 <= self.top_k < 2**32:
            raise InvalidInput.in_field(
                "top_k",
                "BAD_FIELD",
                f"top_k: expected 0 (all) or a number of classes, got {self.top_k}",
            )


def encode(question: Question, model: Model, inputs: Inputs) -> tuple[pb.ClassifyRequest, bool]:
    """Build the request for `inputs`, and tell whether they are one row.

    A value with as many axes as the model's input is a batch; a value with one axis fewer is one
    row. Elements are converted to the model's dtypes; a conversion that would change a value is
    refused (`_tensor.convert`).

    Args:
        question: Options of the call.
        model: Description of the model, which the inputs must fit.
        inputs: Values of the only input, or of every input by its name.

    Returns:
        The request, and True where the inputs are one row without a batch axis.

    Raises:
        InvalidInput: A name, a shape or a value does not fit the description.
    """
    values = _by_name(model, inputs)
    arrays = [_read(model, spec, values[spec.name]) for spec in model.inputs]
    single = _is_one_row(model, arrays)
    request = pb.ClassifyRequest(
        model_name=question.model,
        model_version=question.version,
        inputs=[
            _encode(model, spec, array, single)
            for spec, array in zip(model.inputs, arrays, strict=True)
        ],
        top_k=question.top_k,
        threshold=question.threshold,
        return_probabilities=question.return_probabilities,
    )
    return request, single


def decode(response: pb.ClassifyResponse, model: Model, single: bool) -> Result:
    """Build the result from `response`.

    Args:
        response: The server's answer.
        model: Description of the model that the request was made with.
        single: Whether the request's inputs were one row, and not a batch of one row.
    """
    return Result(response, model.task, single)


def may_be_outdated(error: SigmaxError) -> bool:
    """Return whether a description that has changed on the server could explain the error."""
    return isinstance(error, NotSupported) or error.reason in _OF_DESCRIPTION


def decode_model(message: pb.Model) -> Model:
    """Build the description of a model from its message."""
    return Model(
        name=message.name,
        version=message.version,
        versions=_versions(message.versions),
        inputs=_specs(message.inputs),
        outputs=_specs(message.outputs),
        task=task_name(message.task),
        labels=tuple(message.labels),
        thresholds=tuple(message.thresholds),
        device=message.device,
        max_batch_size=message.max_batch_size,
        preferred_batch_size=message.preferred_batch_size,
        rows_independent=message.rows_independent,
        device_reason=message.device_reason,
    )


def decode_summary(message: pb.ModelSummary) -> ModelSummary:
    """Build the summary of a model from its message."""
    return ModelSummary(message.name, _versions(message.versions), task_name(message.task))


def _by_name(model: Model, inputs: Inputs) -> Mapping[str, ArrayLike]:
    expected = [spec.name for spec in model.inputs]
    if not isinstance(inputs, Mapping):
        if len(expected) == 1:
            return {expected[0]: inputs}
        raise InvalidInput.in_field(
            "inputs",
            "MISSING_INPUT",
            f"model '{model.name}' expects a dict of the inputs {_quoted(expected)}; got one value",
        )
    if set(inputs) != set(expected):
        unexpected = set(inputs) - set(expected)
        raise InvalidInput.in_field(
            "inputs",
            "UNEXPECTED_INPUT" if unexpected else "MISSING_INPUT",
            f"model '{model.name}' expects the inputs {_quoted(expected)}; got {_quoted(inputs)}",
        )
    return inputs


def _read(model: Model, spec: TensorSpec, value: ArrayLike) -> _tensor.Array:
    try:
        return _tensor.read_texts(value) if spec.dtype == "BYTES" else _tensor.read(value)
    except ValueError as error:
        raise _bad(model, spec, "data", "BAD_ELEMENT", str(error)) from error


def _is_one_row(model: Model, arrays: list[_tensor.Array]) -> bool:
    """Return whether all inputs lack the batch axis; raise where a shape fits neither way."""
    kinds = {
        spec.name: _lacks_batch_axis(model, spec, array)
        for spec, array in zip(model.inputs, arrays, strict=True)
    }
    if len(set(kinds.values())) > 1:
        rows = [name for name, one_row in kinds.items() if one_row]
        raise InvalidInput.in_field(
            "inputs",
            "BATCH_SIZE_MISMATCH",
            f"model '{model.name}' expects one row of every input, or a batch of every input; "
            f"got one row of {_quoted(rows)} only",
        )
    return all(kinds.values())


def _lacks_batch_axis(model: Model, spec: TensorSpec, array: _tensor.Array) -> bool:
    if _fits(spec.shape, array.shape):
        return False
    has_batch_axis = model.max_batch_size > 0
    if has_batch_axis and _fits(spec.shape[1:], array.shape):
        return True
    or_row = f", or {list(spec.shape[1:])} for one row" if has_batch_axis else ""
    raise _bad(
        model,
        spec,
        "shape",
        "SHAPE_MISMATCH",
        f"expected shape {list(spec.shape)}{or_row}; got {list(array.shape)}",
    )


def _fits(expected: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(expected) == len(found) and all(
        e in (-1, f) for e, f in zip(expected, found, strict=True)
    )


def _encode(model: Model, spec: TensorSpec, array: _tensor.Array, single: bool) -> pb.Tensor:
    try:
        raw = _tensor.to_bytes(array, spec.dtype)
    except ValueError as error:
        raise _bad(model, spec, "data", "BAD_ELEMENT", str(error)) from error
    return pb.Tensor(
        name=spec.name,
        dtype=f"DATA_TYPE_{spec.dtype}",
        shape=(1, *array.shape) if single else array.shape,
        raw=raw,
    )


def _bad(model: Model, spec: TensorSpec, part: str, reason: str, detail: str) -> InvalidInput:
    return InvalidInput.in_field(
        f"inputs[{spec.name}].{part}",
        reason,
        f"input '{spec.name}' of model '{model.name}': {detail}",
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def _specs(messages: Iterable[pb.TensorDescription]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(m.name, dtype_name(m.dtype), tuple(m.shape), m.meaning) for m in messages
    )


def _versions(messages: Iterable[pb.ModelVersion]) -> tuple[ModelVersion, ...]:
    return tuple(ModelVersion(m.version, state_name(m.state), m.reason) for m in messages)
