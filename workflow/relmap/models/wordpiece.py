"""Words to the token ids of an uncased BERT: WordPiece (Wu et al. 2016) as in Devlin et al. 2019.

Text is lowered, its accents are taken off, and it is cut at white space and around every sign of punctuation. A word
that the vocabulary lacks is cut further, from its beginning on, into the longest pieces that it has; all but the first
are written ``##piece``. A word that cannot be cut so, or is longer than 100 letters, is ``[UNK]``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relmap.errors import InputError

PADDING, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL = (PADDING, UNKNOWN, FIRST, LAST)
_LONGEST = 100


@dataclass(frozen=True)
class Encoded:
    """Sentences as a model takes them.

    Attributes:
        ids: (N, T) int64, each sentence between ``[CLS]`` and ``[SEP]``, then padding.
        words: (N, T) int64, the number of the word, from 0, that a token is (a piece of); -1 for special tokens.
        tokens: of each sentence, without padding.
    """

    ids: Tensor
    words: Tensor
    tokens: tuple[tuple[str, ...], ...]


class WordPiece:
    """A vocabulary: tokens in the order of their ids.

    Raises:
        InputError: a special token is absent, or a token is there twice.
    """

    def __init__(self, tokens: Sequence[str], where: str = "the vocabulary") -> None:
        self.tokens = tuple(tokens)
        self.ids = {token: number for number, token in enumerate(tokens)}
        absent = [token for token in SPECIAL if token not in self.ids]
        if absent or len(self.ids) < len(self.tokens):
            wrong = f"lacks {absent[0]}" if absent else "has a token twice"
            raise InputError(f"{where}: {wrong}; it must be the vocab.txt of an uncased BERT, one token a line")

    @classmethod
    def read(cls, path: str | os.PathLike) -> WordPiece:
        """Read a ``vocab.txt``."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: no vocabulary can be read there ({error})") from error
        return cls(text.removesuffix("\n").split("\n"), str(path))

    def text(self) -> str:
        """What ``read`` reads."""
        return "".join(f"{token}\n" for token in self.tokens)

    def pieces(self, word: str) -> list[str]:
        """The tokens of one word as ``split`` gives it."""
        found, begin = [], 0
        while begin < len(word) <= _LONGEST:
            for end in range(len(word), begin, -1):
                piece = ("##" if begin else "") + word[begin:end]
                if piece in self.ids:
                    break
            else:
                return [UNKNOWN]
            found.append(piece)
            begin = end
        return found or [UNKNOWN]

    def encode(self, sentences: Iterable[str], longest: int = 512) -> Encoded:
        """Token ids of sentences, padded to the longest.

        Raises:
            InputError: there is no sentence, or one has more than ``longest`` tokens.
        """
        rows = []
        for sentence in sentences:
            cut = [(piece, number) for number, word in enumerate(split(sentence)) for piece in self.pieces(word)]
            rows.append([(FIRST, -1), *cut, (LAST, -1)])
            if len(rows[-1]) > longest:
                raise InputError(f"a sentence has {len(rows[-1])} tokens, over {longest}; shorten {sentence[:40]!r}")
        if not rows:
            raise InputError("there is no sentence")
        length = max(map(len, rows))
        ids = torch.full((len(rows), length), self.ids[PADDING])
        words = torch.full((len(rows), length), -1)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor([self.ids[token] for token, _ in row])
            words[place, : len(row)] = torch.tensor([number for _, number in row])
        return Encoded(ids, words, tuple(tuple(token for token, _ in row) for row in rows))


def split(text: str) -> list[str]:
    """Words and signs of punctuation, lowered, without accents."""
    spaced = []
    for letter in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(letter)
        if letter.isspace():
            spaced.append(" ")
        elif _is_punctuation(letter, kind) or _is_ideograph(letter):
            spaced.append(f" {letter} ")
        elif not (kind.startswith("C") or kind == "Mn" or letter == "\ufffd"):
            spaced.append(letter)
    return "".join(spaced).split()


def _is_punctuation(letter: str, kind: str) -> bool:
    """All signs of ASCII that are no letters or digits, such as ``$``, count as well."""
    return kind.startswith("P") or (letter.isascii() and letter.isprintable() and not letter.isalnum())


def _is_ideograph(letter: str) -> bool:
    """Of Chinese, Japanese or Korean: a word of its own."""
    return unicodedata.name(letter, "").startswith(("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH"))
