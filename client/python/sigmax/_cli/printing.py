"""Tables, lines of JSON and CSV, in which no text of a server can steer the terminal."""

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_lines(facts: Iterable[dict[str, Any]]) -> None:
    """Print a line of JSON for each of the facts."""
    for fact in facts:
        line = json.dumps(fact, ensure_ascii=False)
        # JSON escapes line feeds, but not every character that controls a terminal.
        print(line if line.isprintable() else "".join(map(_json_escaped, line)))


def print_table(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its widest cell."""
    table = [[plain(cell) for cell in row] for row in ([header] if header else []) + list(rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def print_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a line of CSV for the header and for each row."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([plain(cell) for cell in header])
    writer.writerows(
        [plain(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )


def plain(text: str) -> str:
    """Escape unprintable characters, so that labels and messages cannot control the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _json_escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]
