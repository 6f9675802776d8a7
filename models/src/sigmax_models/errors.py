"""Errors and warnings of the export."""


class ExportError(Exception):
    """An error that stopped an export, which leaves no file; the message says why."""


class InexactWarning(UserWarning):
    """A warning that an exported file is not exact.

    ONNX Runtime and torch differ by more than 1e-6, or the answer to a row changes with its batch.
    The file is written; its tolerance is twice the measured difference, at least 1e-6.
    """


class ExportNotice(UserWarning):
    """A notice that the export changed or guessed something, such as the dtype of the rows."""
