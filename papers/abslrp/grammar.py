"""Sentences about films and shows of which it is known which words carry the sentiment.

A sentence is one to three opinions and one or two neutral clauses, in any order:

    opinion:  the <part> was [<adverb>] <adjective>   or   i <verb> the <part>
    negated:  the <part> was not [<adverb>] <adjective>   or   i never <verb> the <part>

The sign of an opinion is that of its adjective or verb, turned round by a negation; the sentence's label is the sign of
most of its opinions. All other words are drawn without looking at the label, so none of them tells it, and a negation
alone does not tell it either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from relmap.job.seeds import derive


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


POSITIVE = {
    "adjective": _words("wonderful brilliant charming moving funny superb delightful gripping clever good great"),
    "verb": _words("loved enjoyed admired liked"),
}
NEGATIVE = {
    "adjective": _words("terrible dull boring awful clumsy bad weak tedious shallow silly predictable"),
    "verb": _words("hated disliked regretted despised"),
}
NEGATIONS = {"adjective": _words("not hardly"), "verb": _words("never")}
ADVERBS = _words("really quite rather simply truly")
PARTS = _words("plot script cast acting music score ending dialogue camera director story scenery")
KINDS = _words("film movie show series episode documentary")
NEUTRAL = _words("long short french animated recent digital british historical")
FRIENDS = _words("friend brother neighbour teacher")
TIMES = _words("today yesterday tonight twice")
PLACES = _words("france berlin london canada")
JOINS = _words("and , ; while")
VOCABULARY = sorted(
    {
        *(word for signed in (POSITIVE, NEGATIVE, NEGATIONS) for words in signed.values() for word in words),
        *(word for words in (ADVERBS, PARTS, KINDS, NEUTRAL, FRIENDS, TIMES, PLACES, JOINS) for word in words),
        *["the", "was", "i", "we", "watched", "it", "made", "in", "my", "chose", "."],
    }
)


@dataclass(frozen=True)
class Sentence:
    """Words, what each speaks for (1 positive, -1 negative, 0 nothing), and the label (1 positive, 0 negative)."""

    words: tuple[str, ...]
    roles: tuple[int, ...]
    label: int

    @property
    def text(self) -> str:
        return " ".join(self.words)


def splits(train: int, test: int, negated: float, mixed: float, seed: int) -> tuple[list[Sentence], list[Sentence]]:
    """So many sentences to train on, and others to test on; arguments as in ``draw_sentences``."""
    to_train = draw_sentences(train, derive(seed, "training sentences"), negated, mixed)
    return to_train, draw_sentences(test, derive(seed, "test sentences"), negated, mixed, but=to_train)


def draw_sentences(count: int, seed: int, negated: float, mixed: float, but: Sequence[Sentence] = ()) -> list[Sentence]:
    """Distinct sentences, each of whose labels has the same chance.

    Args:
        count: how many.
        seed: of all draws.
        negated: share of opinions that are negated.
        mixed: share of the sentences of three opinions of which one speaks against the label.
        but: sentences that must not come again, such as those of the training.
    """
    random = np.random.default_rng(seed)
    seen, found = {sentence.words for sentence in but}, []
    while len(found) < count:
        sentence = _sentence(random, negated, mixed)
        if sentence.words not in seen:
            seen.add(sentence.words)
            found.append(sentence)
    return found


Clause = list[tuple[str, int]]
"""Words with what they speak for."""


def _sentence(random: np.random.Generator, negated: float, mixed: float) -> Sentence:
    label = int(random.integers(2))
    sign = 2 * label - 1
    opinions = [sign] * int(random.integers(1, 4))
    if len(opinions) == 3 and random.random() < mixed:
        opinions[0] = -sign
    clauses = [_opinion(random, each, random.random() < negated) for each in opinions]
    clauses += [_neutral(random) for _ in range(int(random.integers(1, 3)))]
    tagged: Clause = []
    for place, number in enumerate(random.permutation(len(clauses))):
        tagged += ([(_one(random, JOINS), 0)] if place else []) + clauses[number]
    words, roles = zip(*tagged, (".", 0), strict=True)
    return Sentence(words, roles, label)


def _opinion(random: np.random.Generator, sign: int, negated: bool) -> Clause:
    form = "adjective" if random.random() < 0.7 else "verb"
    telling = (POSITIVE if (sign > 0) != negated else NEGATIVE)[form]
    carried = [(_one(random, NEGATIONS[form]), sign)] if negated else []
    word, part = (_one(random, telling), sign), (_one(random, PARTS), 0)
    if form == "verb":
        return [("i", 0), *carried, word, ("the", 0), part]
    adverb = [(_one(random, ADVERBS), 0)] if random.random() < 0.5 else []
    return [("the", 0), part, ("was", 0), *carried, *adverb, word]


def _neutral(random: np.random.Generator) -> Clause:
    said = (
        ["the", _one(random, KINDS), "was", _one(random, NEUTRAL)],
        ["we", "watched", "it", _one(random, TIMES)],
        ["it", "was", "made", "in", _one(random, PLACES)],
        ["my", _one(random, FRIENDS), "chose", "it"],
    )
    return [(word, 0) for word in said[random.integers(len(said))]]


def _one(random: np.random.Generator, words: Sequence[str]) -> str:
    return words[random.integers(len(words))]
