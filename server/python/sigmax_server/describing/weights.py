"""Brings weights that lie in files beside a model into the model."""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from sigmax_server.graph import ContradictionError
from sigmax_server.text import shown


def bring_in(model: ModelProto, folder: Path) -> None:
    """Read every weight of another file into the model; links are followed, as by a server.

    Args:
        model: model to complete.
        folder: folder of the model's file.

    Raises:
        ContradictionError: a file is not in the folder, cannot be read or is too short; the message
            names the weights and the file.
    """
    nodes = (node for function in model.functions for node in function.node)
    for tensor in (*_of_graph(model.graph), *_of_nodes(nodes)):
        if tensor.data_location == TensorProto.EXTERNAL:
            stated = {each.key: each.value for each in tensor.external_data}
            try:
                tensor.raw_data = _read(stated, folder)
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                file = shown(stated.get("location", ""))
                raise ContradictionError(
                    f"weights {shown(tensor.name)}: {file}: {reason}"
                ) from None
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def _read(stated: dict[str, str], folder: Path) -> bytes:
    location = PurePosixPath(stated.get("location", ""))
    if location.is_absolute() or ".." in location.parts or not (folder / location).is_file():
        raise ValueError(f"expected a file in the model's folder, {folder}")
    offset = int(stated.get("offset") or 0)
    length = int(stated.get("length") or -1)
    with (folder / location).open("rb") as file:
        file.seek(offset)
        content = file.read(length)
    if len(content) < length:
        raise ValueError(f"expected {length} bytes from {offset} on, got {len(content)}")
    return content


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
