"""`make lint`: the core's files import each other in one direction.

    python server/core/imports.py

Two rules, held against every `use` and every path below src/, tests left out:

- No file imports, through whatever others, a file that imports it.
- A folder imports only folders that stand below it in the table in src/lib.rs.
"""

import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).parent / "src"
Module = tuple[str, ...]


def main() -> None:
    """Say what breaks a rule, and exit with 1 where something does."""
    files = {module(path): path for path in SOURCE.rglob("*.rs") if path.stem != "tests"}
    imports = {name: set(imported(name, path, files)) - {name} for name, path in files.items()}
    faults = [*circles(imports), *upwards(imports, layers())]
    print("\n".join(faults) or f"{len(files)} files import each other in one direction")
    sys.exit(bool(faults))


def module(path: Path) -> Module:
    """The path of the module that a file holds: `scheduler/mod.rs` is `("scheduler",)`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


def imported(name: Module, path: Path, files: dict[Module, Path]) -> Iterator[Module]:
    """The modules with a file of their own that a file names."""
    text = re.sub(r"//.*", "", path.read_text())
    # Tests are the last thing in a file.
    text = re.split(r"#\[cfg\(test\)\]\s*mod ", text)[0]
    # `super` and `self` within a module in braces mean others; such modules name none of ours.
    roots = {"crate": (), "self": name, "super": name[:-1]}
    for start, rest in re.findall(
        r"\b(?:use )?(crate|self|super)((?:::\w+)*(?:::\{[^;]*\})?)", text
    ):
        for parts in expanded(rest):
            target = (*roots[start], *parts)
            while target and target not in files:
                target = target[:-1]
            if target:
                yield target


def expanded(path: str) -> Iterator[Module]:
    """`::a::{b, c::d}` as (a, b) and (a, c, d)."""
    head, brace, group = path.partition("{")
    parts = tuple(part for part in head.split("::") if part)
    if not brace:
        yield parts
        return
    depth, item = 0, ""
    for letter in group.rstrip()[:-1] + ",":
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            for rest in expanded(re.sub(r"\s+as\s+\w+", "", item.strip())):
                yield (*parts, *rest)
            item = ""
        else:
            item += letter


def circles(imports: dict[Module, set[Module]]) -> Iterator[str]:
    """A circle of files, if there is one."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield "circle: " + " <- ".join("::".join(name) for name in error.args[1])


def layers() -> list[str]:
    """The folders and files of the core, from the top of the table in lib.rs to its bottom."""
    rows = re.findall(r"^//! \| \[`(\w+)`\]", (SOURCE / "lib.rs").read_text(), re.MULTILINE)
    found = {path.stem for path in SOURCE.iterdir()} - {"lib"}
    if missing := found ^ set(rows):
        sys.exit(f"the table in lib.rs and src/ do not agree on {', '.join(sorted(missing))}")
    return rows


def upwards(imports: dict[Module, set[Module]], order: list[str]) -> Iterator[str]:
    """Imports of what stands higher up."""
    place = {name: number for number, name in enumerate(order)}
    for name, targets in sorted(imports.items()):
        for target in sorted(targets):
            if name and place[target[0]] < place[name[0]]:
                yield f"upwards: {'::'.join(name)} imports {'::'.join(target)}"


if __name__ == "__main__":
    main()
