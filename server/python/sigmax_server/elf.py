"""Which libraries a shared library needs, read from its file (ELF, 64 bits, little-endian)."""

import struct
from pathlib import Path

_LOAD, _DYNAMIC = 1, 2  # types of segments
_NEEDED, _NAMES = 1, 5  # tags of the dynamic section: DT_NEEDED, DT_STRTAB


def needed(library: Path) -> list[str]:
    """List the names that a library asks the loader for (DT_NEEDED), in its order.

    Only the few pages that hold them are read, however large the file is.

    Raises:
        ValueError: the file is no shared library of this kind.
        OSError: it cannot be read.
    """
    with library.open("rb") as file:

        def read(at: int, size: int) -> bytes:
            file.seek(at)
            return file.read(size)

        head = read(0, 64)
        if head[:6] != b"\x7fELF\2\1":
            raise ValueError(f"{library}: expected a shared library (ELF, 64 bits)")
        (at,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        table = read(at, size * count)
        # Each: type, flags, offset, address, physical address, size in the file, in memory, align.
        segments = [struct.unpack_from("<2I6Q", table, size * each) for each in range(count)]
        entries = [
            entry
            for kind, _, offset, _, _, length, _, _ in segments
            if kind == _DYNAMIC
            for entry in struct.iter_unpack("<2Q", read(offset, length))
        ]
        names = [value for tag, value in entries if tag == _NAMES]
        # The names lie at an address; the segment that is loaded there says where in the file.
        starts = [
            offset + address - base
            for address in names
            for kind, _, offset, base, _, length, _, _ in segments
            if kind == _LOAD and base <= address < base + length
        ]

        def text(start: int) -> str:
            return read(start, 256).partition(b"\0")[0].decode()

        return [text(starts[0] + value) for tag, value in entries if tag == _NEEDED]
