"""Reads which libraries a shared library needs from its file (ELF, 64 bits, little-endian)."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

_LOAD, _DYNAMIC = 1, 2  # types of segments: PT_LOAD, PT_DYNAMIC
_NEEDED, _NAMES = 1, 5  # tags of the dynamic section: DT_NEEDED, DT_STRTAB


def needed(library: Path) -> list[str]:
    """List the names that a library asks the loader for (DT_NEEDED), in the order of its file.

    Only the few pages with the names are read, however large the file is.

    Raises:
        ValueError: the file is no 64-bit ELF library, or is cut short.
        OSError: the file cannot be read.
    """
    with library.open("rb") as file:
        try:
            return _needed(file)
        except (struct.error, IndexError, ValueError):
            raise ValueError(f"{library}: expected a shared library (ELF, 64 bits)") from None


def _needed(file: BinaryIO) -> list[str]:
    magic, at, size, count = struct.unpack_from("<6s26xQ14x2H", _read(file, 0, 64))
    if magic != b"\x7fELF\2\1":
        raise struct.error
    table = _read(file, at, size * count)
    # Fields of a segment: type, flags, offset, address, physical address, size in the file, size in
    # memory, alignment.
    segments = [struct.unpack_from("<2I6Q", table, size * each) for each in range(count)]
    # A file that is cut short must be refused here: the loader would map the missing part, and the
    # process would die of it.
    if file.seek(0, os.SEEK_END) < max(segment[2] + segment[5] for segment in segments):
        raise struct.error
    entries = [
        entry
        for kind, _, offset, _, _, length, _, _ in segments
        if kind == _DYNAMIC
        for entry in struct.iter_unpack("<2Q", _read(file, offset, length))
    ]
    # DT_STRTAB is an address. The segment that is loaded there gives the place in the file.
    starts = [
        offset + address - base
        for tag, address in entries
        for kind, _, offset, base, _, length, _, _ in segments
        if tag == _NAMES and kind == _LOAD and base <= address < base + length
    ]
    names = (starts[0] + value for tag, value in entries if tag == _NEEDED)
    return [_read(file, at, 256).partition(b"\0")[0].decode() for at in names]


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
