"""Makes a module ready for its export, or says why it cannot be exported."""

import copy
import warnings

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sigmax_models.errors import ExportError, ExportNotice

# Libraries whose models have converters of their own, and those converters.
_CONVERTERS = {
    "sklearn": "skl2onnx (with zipmap=False)",
    "xgboost": "onnxmltools",
    "lightgbm": "onnxmltools (with zipmap=False)",
    "catboost": "its own save_model(format='onnx')",
}


def as_module(found: object) -> nn.Module:
    """Return the module that an object is or wraps, as torch.compile and DataParallel do.

    Raises:
        ExportError: The object is no torch module.
    """
    if isinstance(found, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        found = found.module
    found = getattr(found, "_orig_mod", found)  # what torch.compile has compiled
    if isinstance(found, nn.Module):
        return found
    raise ExportError(f"module: expected a torch module, got {_say_kind(found)}")


def frozen_copy(module: object) -> nn.Module:
    """Return a copy of a module on the CPU, in eval mode, with finite weights.

    Weights of bfloat16 become float32, with a notice: few processors and clients know bfloat16.

    Raises:
        ExportError: The object is no torch module, or a module that torch cannot export.
    """
    original = as_module(module)
    refuse_kinds(original)
    try:
        frozen = copy.deepcopy(original).cpu().eval()
    except (RuntimeError, TypeError) as error:
        raise ExportError(f"module: it cannot be copied: {first_line(error)}") from error
    dtypes = {tensor.dtype for tensor in frozen.state_dict().values() if torch.is_tensor(tensor)}
    if torch.bfloat16 in dtypes:
        frozen = frozen.float()
        warnings.warn(
            "the module's weights are bfloat16; the file holds them as float32",
            ExportNotice,
            stacklevel=2,
        )
    for name, values in frozen.state_dict().items():
        finite = not torch.is_tensor(values) or torch.isfinite(values).all()
        if not finite:
            raise ExportError(f"weights: {name!r} holds values that are not finite")
    return frozen


def refuse_kinds(module: nn.Module) -> None:
    """Refuse kinds of modules that torch's exporter fails on, with the way out of each.

    Raises:
        ExportError: The module is one of these kinds, or a part of it is.
    """
    for name, part in module.named_modules():
        place = f"{name!r} is" if name else "it is"
        kind = type(part)
        if isinstance(part, torch.jit.ScriptModule):
            raise ExportError(
                f"module: {place} a ScriptModule, which torch cannot export: give the Python "
                "module that it was made of, with its state_dict"
            )
        if "quantized" in kind.__module__.split(".") and kind.__module__.startswith("torch."):
            raise ExportError(
                f"module: {place} a quantized {kind.__name__}, which torch cannot export: give "
                "the module as it was before it was quantized"
            )
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(values):
            raise ExportError(
                f"module: {name!r} of a lazy layer has no values yet: call the module with some "
                "rows once, and train it or load its weights"
            )


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the dtype of a module's weights; torch's default where there are none."""
    for values in (*module.parameters(), *module.buffers()):
        if values.is_floating_point():
            return values.dtype
    return torch.get_default_dtype()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something, or the error's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _say_kind(found: object) -> str:
    kind = type(found).__name__
    library = type(found).__module__.partition(".")[0]
    if isinstance(found, type):
        return f"the class {found.__name__}: make a module of it, and load its weights"
    if isinstance(found, torch.export.ExportedProgram):
        return "an ExportedProgram: give what its method module() returns"
    if isinstance(found, dict):
        return "a dict: load a state_dict into its module, by load_state_dict, and give the module"
    if library in _CONVERTERS:
        return (
            f"a {kind} of {library}: convert it with {_CONVERTERS[library]}, and describe the "
            "file with `sigmax describe`"
        )
    return f"an object of type {kind}"
