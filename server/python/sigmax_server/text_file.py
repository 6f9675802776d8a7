"""Reads text files that any editor may have written: label files and config.pbtxt."""

from pathlib import Path

from sigmax_server._native import read_file
from sigmax_server.graph import ContradictionError

_MARK = b"\xef\xbb\xbf"  # UTF-8's byte-order mark, which editors on Windows put first


def read(file: Path, most_bytes: int) -> str:
    """Return the text of a regular file; links are followed.

    Args:
        file: path of the file.
        most_bytes: most bytes that the file may have.

    Raises:
        NativeError: the file cannot be read, is no regular file, or is longer.
        ContradictionError: the file is no UTF-8 text.
    """
    return decoded(read_file(file, most_bytes))


def decoded(content: bytes) -> str:
    """Return the text of a file's content, without a byte-order mark.

    Raises:
        ContradictionError: the content is no UTF-8 text.
    """
    # ASCII in UTF-16 or UTF-32 without a mark is UTF-8, but has a zero byte in each character.
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        raise ContradictionError("expected UTF-8 text, got UTF-16 or zero bytes; save it as UTF-8")
    try:
        return content.removeprefix(_MARK).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        came = f"the byte 0x{error.object[error.start]:02x} in line {line}"
        raise ContradictionError(f"expected UTF-8 text, got {came}; save it as UTF-8") from None


def lines(text: str) -> tuple[str, ...]:
    r"""Return the lines of a text, which end at `\n` or `\r\n`, without blank ones at the end."""
    found = text.replace("\r\n", "\n").split("\n")
    while found and not found[-1].strip():
        found.pop()
    return tuple(found)
