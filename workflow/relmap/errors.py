"""What users are meant to see, the exception and the warning, and what a misspelt word may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(RuntimeError):
    """Something that the user gave is wrong. The message names the file, key or value, and the cure.

    It is one line: what a stranger's file put into it breaks no line and speaks to no terminal.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class RelevanceWarning(UserWarning):
    """Maps that are what their method says, and yet should not be relied on. The message says why, and what to do."""


def printable(text: object) -> str:
    """A text with its line breaks as spaces, and other characters that are not printed by their numbers."""
    words = " ".join(str(text).split("\n"))
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)


def nearest(word: object, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Known words that are like a word, the likest first; upper case and what joins its parts do not count."""
    plain = {_plain(each): each for each in known}
    return [plain[each] for each in difflib.get_close_matches(_plain(str(word)), plain, count, cutoff)]


def suggestion(word: object, known: Iterable[str]) -> str:
    """``; did you mean 'this'?``, or nothing where no known word is like it."""
    return "".join(f"; did you mean {each!r}?" for each in nearest(word, known))


def _plain(word: str) -> str:
    return word.lower().replace("-", "_").replace(" ", "_")
