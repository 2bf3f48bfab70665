"""Reading an answer out of what a model wrote. Pure and total: no text makes these raise.

Where there is no answer, the cause is one of `CAUSES`; unparsable completions are counted by it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from labelrel.canonical import number, text
from labelrel.tasks.base import Item, Reading

CAUSES = ("empty", "refuses", "names no option", "names several options", "no number", "unclear number")

_WINDOW = 400  # characters in which a letter or a word of judgement has to come; models go on for ever
_LONGEST_LINE = 10_000

_BREAKS = re.compile(r"(?:[\s;:!?()\"\u2014]|[.,](?!(?<=[0-9].)[0-9]))+")
_NOT_WORD = re.compile(r"(?:(?!(?<=[0-9])\.[0-9])[\W_])+")  # 1.5 and 15 are not the same
_MINUS = re.compile(r"^[^\w\u2212-]*[\u2212-](?=[.0-9])")
_REFUSES = re.compile(
    r"\W*(?:(?:i'?m|i am|we are|we're) (?:sorry|unable|not able|afraid)|sorry\b|my apologies|i apologi[sz]e"
    r"|as an? (?:ai|artificial|language|large)\b|(?:i|we) (?:cannot|can'?t|can not|won'?t|will not|refuse|decline)\b"
    r"|i (?:do not|don'?t) (?:know|have)\b|(?:it is|it'?s) not possible\b|unfortunately\b)"
)


def parse_choice(item: Item, completion: str) -> Reading:
    """Read the choice that a completion begins with: the `parse` of every task of options in words."""
    return read_choice(item["choices"], completion)


def read_choice(choices: Sequence[str], completion: str) -> Reading:
    """Read the index of the choice that a completion begins with.

    Case, accents, punctuation, blanks and a leading "the" do not matter, but for the point and the
    minus of a number. Whole words do: "Nigeria" does not name Niger. The longest of several
    matching choices wins; where two read the same ("x+1", "x-1"; "Bb", "bb"), the one that is there to the
    letter.

    Args:
        choices: the texts of the choices.
        completion: what the annotator wrote.

    Returns:
        The index as a string. No answer where the completion begins with none of the choices or with
        two that read the same.

    Example:
        >>> read_choice(["Guinea", "Guinea-Bissau"], " guinea bissau, of course").answer
        '1'
    """
    keys = ["".join(_words(choice)) for choice in choices]
    longest = max(map(len, keys), default=0)
    heard, ends = "", set()
    for word in _words(completion):
        heard += word
        ends.add(len(heard))
        if len(heard) >= longest:
            break
    named = [(len(key), index) for index, key in enumerate(keys) if key and len(key) in ends and heard.startswith(key)]
    best = [index for length, index in named if length == max(named)[0]]
    if len(best) > 1:
        best = _to_the_letter({index: choices[index] for index in best}, completion)
    if len(best) == 1:
        return Reading(str(best[0]))
    return Reading(None, "names several options") if best else _nothing(completion, "names no option")


def _words(text: str) -> list[str]:
    words = _all_words(text)
    return words[1:] if words[:1] == ["the"] else words


def _all_words(text: str) -> list[str]:
    """Split at blanks and sentence marks; inside a word only letters, digits, points and a minus count."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(c))
    words = []
    for part in _BREAKS.split(bare):
        if word := _NOT_WORD.sub("", part):
            words.append("-" + word if _MINUS.match(part) else word)
    return words


def _to_the_letter(choices: dict[int, str], completion: str) -> list[int]:
    """Return the indices of the longest choices that a completion begins with, marks and, if need be, case included."""
    best = list(choices)
    for fold in (str.casefold, str):
        spoken = " ".join(fold(completion).split()).lstrip("\"'*_`")
        exact = {index: " ".join(fold(choices[index]).split()).rstrip(".") for index in best}
        found = {
            index: len(key)
            for index, key in exact.items()
            if spoken.startswith(key) and not re.match(r"\w|[.,/^%][0-9]|%", spoken[len(key) :])
        }
        best = [index for index, length in found.items() if length == max(found.values())] or best
        if len(best) == 1:
            break
    return best


_LETTER = r"(?P<{0}>[A-Z])(?:[)\]}}*_:;?!>]|[\"'.,](?!\w)|\s*$|\s*\n)"  # as an answer, not as a word
_STRICT = _LETTER.format("strict")
_LOOSE = r"(?P<loose>[B-HJ-Z])(?=\s)"  # "A" and "I" are words before another word
_SAID = r"(?P<said>[AI])\s+(?:is (?:the )?(?:correct|right|best|answer|true)|because\b|or\b|and\b)"
_CLOSED = r"[(\[{]\s*(?P<closed>[A-Za-z])\s*[)\]}]|(?P<lower>[a-z])(?:[)\]:]|\.(?!\w)|\s*$|\s*\n)"
_ANSWER = re.compile(rf"(?:{_CLOSED}|{_STRICT}|{_LOOSE}|{_SAID})")
_SPACE = r"[^\S\n]*"
_MORE = re.compile(
    rf"(?P<first>[A-Za-z])[)\]}}.*]*{_SPACE}(?:or|and|/|&|,|\+){_SPACE}(?:or|and)?{_SPACE}[(\[]?"
    r"(?P<second>[A-Z])(?:[)\]}.,;:!?*/]|\s*$|\s*\n|\s+(?:or|and|are)\b)"
)
_ANOTHER = re.compile(r"\n\s*(?:Question|Q)\b")  # a model that is not stopped asks itself the next one
_PHRASE = re.compile(
    r"\\boxed\s*\{(?:\\text\s*\{)?\W{0,3}(?=[A-Z]\W*\})"
    r"|\b(?i:answers?|options?|choices?|choose|select|pick)\b"
    r"(?:\s+(?i:is|are|was|be|would|should|must|will|number|letter|option|choice|therefore|the))*\s*[:=\-]?[\s\"'*_`]*"
)


def read_letter(count: int, completion: str) -> Reading:
    """Read the index of the option that a completion names by its letter.

    The letter stands at the beginning ("B", "(b)", "**C**", "B) because") or after "the answer is",
    "option" and the like. "A" and "I" before another word are words: "A man is ..." names no option.

    Args:
        count: of the options, A, B, … in the order in which they were shown.
        completion: what the annotator wrote; its first 400 characters are looked at.

    Returns:
        The index in the order shown, as a string.

    Example:
        >>> [read_letter(4, text).answer for text in (" B.", "The answer is (d)", "A man runs", "A or B")]
        ['1', '3', None, None]
    """
    spoken = unicodedata.normalize("NFKC", completion[:_WINDOW])[:_WINDOW]
    spoken = "".join(c for c in spoken if unicodedata.category(c) != "Cf")
    spoken = _ANOTHER.split(spoken, maxsplit=1)[0]
    start = re.sub(r"^[\s\"'*_`#>$-]+", "", spoken)
    start = re.sub(r"^(?:[Bb]oth|[Ee]ither)\s+", "", start)
    places = [start, *(spoken[phrase.end() :] for phrase in _PHRASE.finditer(spoken))]
    for rest in places:
        more = _MORE.match(rest.lstrip("([{"))
        if more and more["first"].upper() != more["second"]:
            return Reading(None, "names several options")
        if found := _ANSWER.match(rest):
            letter = next(group for group in found.groups() if group).upper()
            index = ord(letter) - ord("A")
            if 0 <= index < count:
                return Reading(str(index))
            break
    return _nothing(completion, "names no option")


_NOT = frozenset(
    """
    not never isnt wasnt arent dont doesnt didnt cannot cant wouldnt aint
    """.split()  # noqa: SIM905 - a list literal would be a page of quotes
)
_FILLERS = frozenset(
    """
    a an the it its this that these thats what which i my we you they he she me people most did do does done is
    was are were be been being would could might must may should will s have has had to of in as for by so think
    believe say said call called consider considered considers feel judge answer verdict judgement judgment
    action actions act behavior behaviour thing one word morally ethically moral ethical very quite completely
    absolutely totally clearly definitely certainly probably simply really just generally usually
    """.split()  # noqa: SIM905 - a list literal would be a page of quotes
)


def read_word(words: Sequence[Sequence[str]], completion: str) -> Reading:
    """Read which of a few fixed words a completion answers with.

    The first word that says something decides; words such as "it is" may come before it. Between two
    classes "not acceptable" is the other one; among more, it says nothing. Whole words only:
    "unacceptable" is not "acceptable".

    Args:
        words: per class, the words or phrases that stand for it.
        completion: what the annotator wrote; its first 400 characters are looked at.

    Returns:
        The index of the class, as a string. No answer where another word comes first, or where a
        second class follows at once ("right or wrong").

    Example:
        >>> judgement = [["acceptable", "right"], ["unacceptable", "wrong"]]
        >>> [read_word(judgement, text).answer for text in (" Wrong.", "It is not wrong", "right or wrong")]
        ['1', '0', None]
    """
    heard = _all_words(completion[:_WINDOW].replace("/", " or "))
    phrases = [(tuple(_all_words(phrase)), index) for index, spellings in enumerate(words) for phrase in spellings]
    phrases = sorted((p for p in phrases if p[0]), key=lambda phrase: -len(phrase[0]))
    negated, place = False, 0
    while place < len(heard):
        said = _class_at(phrases, heard, place)
        if said:
            length, found = said
            after = place + length
            follows = _class_at(phrases, heard, after + 1) if heard[after : after + 1] == ["or"] else None
            if len(found) > 1 or (follows and follows[1] != found):
                return Reading(None, "names several options")
            index = found.pop()
            if negated and len(words) != 2:
                break
            return Reading(str(1 - index if negated else index))
        if heard[place] in _NOT:
            negated = not negated
        elif heard[place] not in _FILLERS:
            break
        place += 1
    return _nothing(completion, "names no option")


def _class_at(
    phrases: Sequence[tuple[tuple[str, ...], int]], heard: Sequence[str], place: int
) -> tuple[int, set[int]] | None:
    """Return the length and the classes of the longest phrase that is said at a place."""
    said = [(len(p), index) for p, index in phrases if tuple(heard[place : place + len(p)]) == p]
    return (said[0][0], {index for length, index in said if length == said[0][0]}) if said else None


def read_number(completion: str, *, first_line: bool = True) -> Reading:
    r"""Read the one number of a completion, normalised as by `labelrel.canonical.number`.

    The paper has the reply's first line parse as an integer; here that line may also name a unit or a
    currency, or end in "= 18".

    Args:
        completion: what the annotator wrote.
        first_line: read only the first line that is not blank; else all of it, where the last "####",
            \boxed{} or "=" says which of several numbers is meant.

    Example:
        >>> [read_number(text).answer for text in (" 18\n\nQuestion: 5", "$1,200.00", "9 or 10")]
        ['18', '1200', None]
    """
    said = _first_line(completion) if first_line else completion
    value = number(said)
    if value is not None:
        return Reading(value)
    return _nothing(said, "unclear number" if re.search(r"(?<![^\W_])[0-9]", said) else "no number")


def read_text(completion: str) -> Reading:
    """Read the first line of a completion, normalised as by `labelrel.canonical.text`."""
    said = text(_first_line(completion))
    return Reading(said) if said else Reading(None, "empty")


def _first_line(completion: str) -> str:
    lines = completion.lstrip()[:_LONGEST_LINE].splitlines()
    return lines[0] if lines else ""


def _nothing(completion: str, cause: str) -> Reading:
    """Return the reading of a completion without an answer: nothing written, a refusal, or `cause`."""
    start = completion.lstrip()[:_WINDOW].casefold().replace("\u2019", "'")
    if not start:
        return Reading(None, "empty")
    return Reading(None, "refuses" if _REFUSES.match(start) else cause)
