"""Asks a server with the client of every language, and prints which cases each answers rightly."""

import os
import sys
import tempfile
from pathlib import Path

from support import clients

NO_TOOLCHAIN, BROKEN = "no toolchain", "broken"
# The most wrong cases of a language that are told one by one.
SHOWN = 20


def main() -> None:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    groups = {group: [case["name"] for case in cases] for group, cases in clients.cases().items()}
    columns, notes, failed = {}, [], False
    with (
        tempfile.TemporaryDirectory() as folder,
        clients.served(Path(folder), "--shards=1") as server,
    ):
        for language in clients.LANGUAGES:
            if lack := clients.missing(language):
                columns[language] = dict.fromkeys(groups, NO_TOOLCHAIN)
                notes.append(f"{language}: {lack}")
                continue
            # A client may take minutes to be built for the first time.
            print(f"{language} ...", file=sys.stderr, flush=True)
            try:
                found = clients.ask(language, clients.VECTORS, server)
            except AssertionError as error:
                columns[language], failed = dict.fromkeys(groups, BROKEN), True
                notes.append(f"{language}: {error}")
                continue
            right = {name for name, text in found.items() if not text}
            columns[language] = {
                group: f"{len(right.intersection(names))}/{len(names)}"
                for group, names in groups.items()
            }
            wrong = [name for names in groups.values() for name in names if name not in right]
            notes += [
                f"{language}: {name}: {found.get(name, 'not asked')}" for name in wrong[:SHOWN]
            ]
            notes += [f"{language}: {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
            failed = failed or bool(wrong)
    print("cases".ljust(12), *(language.ljust(len(NO_TOOLCHAIN)) for language in columns))
    for group in groups:
        cells = (column[group].ljust(len(NO_TOOLCHAIN)) for column in columns.values())
        print(group.ljust(12), *cells)
    print(*notes, sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
