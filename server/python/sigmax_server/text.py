"""Makes text from outside, such as names in model files, printable and short."""

import os
import reprlib

MOST_REASON = 400  # most characters of a reason
_END = 80  # characters that are kept from the end of a longer one


def plain(text: str) -> str:
    """Return the text with every unprintable character escaped.

    A name in a model file may hold a line feed or escape codes of a terminal, and must not be able
    to write lines of its own.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """Return a value as messages show it: its repr, a long one by its beginning and end."""
    return _SHORT.repr(value)


def cut(text: str, most: int = 80) -> str:
    """Return the text, or where it has more than `most` characters, its beginning."""
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def why(error: BaseException) -> str:
    """Return the reason of an error as one printable line of at most `MOST_REASON` characters.

    Args:
        error: the error. The reason is its message; for errors that are neither this package's nor
            the operating system's, the name of the class comes first.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error)
    elif not type(error).__module__.startswith("sigmax_server"):
        text = f"{type(error).__name__}: {text}"
    return short(" ".join(text.split()))


def short(text: str) -> str:
    """Return the text printable and at most `MOST_REASON` characters long.

    A longer text is shown by its beginning and its end.
    """
    # The text is cut before it is escaped, so that only shown characters are escaped; and again
    # after, because escapes are longer.
    if len(text) > MOST_REASON:
        text = f"{text[: MOST_REASON - _END - 5]} ... {text[-_END:]}"
    text = plain(text)
    return cut(text, MOST_REASON)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 8
