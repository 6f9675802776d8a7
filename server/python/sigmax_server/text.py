"""Text of others, such as names in model files: as it is printed, and no longer than it helps."""

import os
import reprlib

MOST_REASON = 400  # characters
_END = 80  # of those, kept from a long text's end


def plain(text: str) -> str:
    """Return the text with every character escaped that is not printed as itself.

    A name in a model file may hold a line feed or a terminal's escape codes; a line that is
    printed is ours alone.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shown(value: object) -> str:
    """How messages show a value: as Python writes it, a long one by its beginning and end."""
    return _SHORT.repr(value)


def cut(text: str, most: int = 80) -> str:
    """Return a text of at most so many characters: a long one by its beginning."""
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def why(error: BaseException) -> str:
    """Say in one printable line, of a few hundred characters at most, what went wrong.

    Args:
        error: one of ours is said in its own words; any other is named as well.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {os.fsdecode(error.filename)}" if error.filename else str(error)
    elif not type(error).__module__.startswith("sigmax_server"):
        text = f"{type(error).__name__}: {text}"
    return short(" ".join(text.split()))


def short(text: str) -> str:
    """Return the text as it is printed; a long one by its beginning and its end."""
    # What is escaped is longer, but nothing is escaped that is not shown.
    if len(text) > MOST_REASON:
        text = f"{text[: MOST_REASON - _END - 5]} ... {text[-_END:]}"
    text = plain(text)
    return cut(text, MOST_REASON)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 8
