"""What can go wrong while a network becomes a file."""


class ExportError(Exception):
    """The network was not exported, and no file was left behind; the message says why."""


class InexactWarning(UserWarning):
    """ONNX Runtime and torch differ, or a row's answer changes with its batch, by more than 1e-6.

    The file was written, with the measured difference as its tolerance.
    """
