"""Conversion of values to requests, and of replies to results. Nothing here sends or waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sigmax import _inputs
from sigmax._enums import dtype_name, state_name, task_name
from sigmax._errors import InvalidInput, NotSupported, ServerFault, SigmaxError
from sigmax._inputs import Inputs
from sigmax._model import Head, Model, ModelSummary, ModelVersion, TensorSpec
from sigmax._result import Result
from sigmax.v1 import classifier_pb2 as pb

# Reasons of errors, the server's and our own, that mean: the inputs do not fit the description.
_OF_DESCRIPTION = {
    "BAD_ELEMENT",
    "BYTE_SIZE_MISMATCH",
    "DTYPE_MISMATCH",
    "MISSING_INPUT",
    "SHAPE_MISMATCH",
    "UNEXPECTED_INPUT",
    "UNEXPECTED_OUTPUT",
    "UNKNOWN_HEAD",
}


@dataclass(slots=True)
class Question:
    """The options of a classify call, without the rows."""

    model: str
    version: str
    head: str
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


@dataclass(slots=True)
class Asked:
    """A request's side of its answer, which the answer must fit."""

    question: Question
    task: str | None
    """Task of the head that was asked for."""
    rows: int
    """Rows of the request."""
    single: bool
    """Whether the inputs were one row, and not a batch of one row."""


def encode(question: Question, model: Model, inputs: Inputs) -> tuple[pb.ClassifyRequest, Asked]:
    """Build the request for `inputs`, and what its answer must fit.

    Args:
        question: Options of the call.
        model: Description of the model, which the inputs must fit.
        inputs: Values of the only input, or of every input by its name (`_inputs.read`).

    Raises:
        InvalidInput: A head, a name, a shape or a value does not fit the description.
    """
    task = task_of(question, model)
    arrays, single = _inputs.read(model, inputs)
    parts = [
        (_inputs.shape_of(array, single), _inputs.to_bytes(model, spec, array))
        for spec, array in zip(model.inputs, arrays, strict=True)
    ]
    rows = 1 if single or not arrays[0].shape else arrays[0].shape[0]
    return request(question, model, parts), Asked(question, task, rows, single)


def request(
    question: Question, model: Model, parts: Iterable[tuple[Sequence[int], bytes]]
) -> pb.ClassifyRequest:
    """Build the request from the shape and the elements of each input, in the model's order."""
    message = pb.ClassifyRequest(
        model_name=question.model,
        model_version=question.version,
        top_k=question.top_k,
        threshold=question.threshold,
        return_probabilities=question.return_probabilities,
        head=question.head,
    )
    for spec, (shape, raw) in zip(model.inputs, parts, strict=True):
        message.inputs.add(name=spec.name, dtype=f"DATA_TYPE_{spec.dtype}", shape=shape, raw=raw)
    return message


def decode(response: pb.ClassifyResponse, asked: Asked) -> Result:
    """Build the result from the server's answer to the request.

    Raises:
        ServerFault: The answer is not one to that request.
    """
    if len(response.rows) != asked.rows:
        raise ServerFault.malformed(f"expected {asked.rows} rows, got {len(response.rows)}")
    if asked.question.head and response.head != asked.question.head:
        raise ServerFault.malformed(
            f"expected the head '{asked.question.head}', got '{response.head}'; "
            "a server of an older version knows no heads"
        )
    if asked.question.return_probabilities and not response.HasField("probabilities"):
        raise ServerFault.malformed("expected the probabilities, got none")
    return Result(response, asked.task, asked.single)


def may_be_outdated(error: SigmaxError) -> bool:
    """Return whether a description that has changed on the server could explain the error."""
    return (
        isinstance(error, NotSupported) or error.reason in _OF_DESCRIPTION or "head" in error.fields
    )


def has_changed(kept: Model, described: Model) -> bool:
    """Return whether a request built by the one description may differ from that by the other."""
    return (kept.inputs, kept.heads, kept.outputs) != (
        described.inputs,
        described.heads,
        described.outputs,
    )


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
        heads=tuple(map(_head, message.heads)),
        warnings=tuple(message.warnings),
    )


def decode_summary(message: pb.ModelSummary) -> ModelSummary:
    """Build the summary of a model from its message."""
    return ModelSummary(message.name, _versions(message.versions), task_name(message.task))


def task_of(question: Question, model: Model) -> str | None:
    """Return the task of the head that is asked for; None where the model has no task.

    Raises:
        InvalidInput: The model has no such head.
    """
    name = question.head
    if not name:
        return model.task
    for head in model.heads:
        if head.name == name:
            return head.task
    names = [head.name for head in model.heads if head.name]
    has = f"the heads {_inputs.quoted(names)}" if names else "no head with a name"
    raise InvalidInput.in_field(
        "head", "UNKNOWN_HEAD", f"head: model '{model.name}' has {has}; got '{name}'"
    )


def _head(message: pb.Head) -> Head:
    return Head(
        message.name,
        message.output,
        task_name(message.task),
        tuple(message.labels),
        tuple(message.thresholds),
    )


def _specs(messages: Iterable[pb.TensorDescription]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(m.name, dtype_name(m.dtype), tuple(m.shape), m.meaning, m.encoding, m.any_rank)
        for m in messages
    )


def _versions(messages: Iterable[pb.ModelVersion]) -> tuple[ModelVersion, ...]:
    return tuple(ModelVersion(m.version, state_name(m.state), m.reason) for m in messages)
