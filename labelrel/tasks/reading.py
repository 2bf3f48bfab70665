"""Reading an answer out of what a model wrote. Pure and total: no text makes these raise."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_BREAKS = re.compile(r"[\s.,;:!?()\"]+")
_NOT_WORD = re.compile(r"[\W_]+")


def read_choice(choices: Sequence[str], completion: str) -> str | None:
    """Return the index of the choice that a completion begins with, as a string.

    Case, accents, punctuation, blanks and a leading "the" do not matter. Whole words do: "Nigeria"
    does not name Niger. The longest of several matching choices wins.

    Args:
        choices: the texts of the choices.
        completion: what the annotator wrote.

    Returns:
        The index, or null where the completion begins with none of the choices or with two that
        read the same.

    Example:
        >>> read_choice(["Guinea", "Guinea-Bissau"], " guinea bissau, of course")
        '1'
    """
    keys = ["".join(_words(choice)) for choice in choices]
    longest = max(map(len, keys), default=0)
    heard = _words(completion)[:longest]  # a word has at least one letter, so more words cannot matter
    spoken = {"".join(heard[:n]) for n in range(1, len(heard) + 1)}
    named = [(len(key), index) for index, key in enumerate(keys) if key in spoken]
    best = [index for length, index in named if length == max(named)[0]]
    return str(best[0]) if len(best) == 1 else None


def _words(text: str) -> list[str]:
    """Split at blanks and sentence marks; inside a word only letters and digits count."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = [word for part in _BREAKS.split(bare) if (word := _NOT_WORD.sub("", part))]
    return words[1:] if words[:1] == ["the"] else words
