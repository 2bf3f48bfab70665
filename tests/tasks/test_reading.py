from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelrel.tasks import tasks
from labelrel.tasks.reading import CAUSES, read_choice, read_letter, read_number, read_text, read_word

JUDGEMENT = (("acceptable", "right"), ("unacceptable", "wrong"))
GENRES = (("comedy",), ("drama",), ("not known",))

# written by SmolLM2-135M-Instruct, greedy or sampled at temperature 1; read by hand
REAL = [json.loads(line) for line in (Path(__file__).parent / "completions.jsonl").read_text("utf-8").splitlines()]


def read_real(row):
    if row["kind"] == "letter":
        return read_letter(len(row["choices"]), row["completion"])
    if row["kind"] == "choice":
        return read_choice(row["choices"], row["completion"])
    if row["kind"] == "word":
        return tasks.get("ethics_commonsense").parse({}, row["completion"])
    return read_number(row["completion"])


@pytest.mark.parametrize("row", REAL, ids=[f"{r['kind']}-{n}" for n, r in enumerate(REAL)])
def test_real_completions(row):
    assert read_real(row) == (row["answer"], row["cause"])


def test_real_completions_of_every_kind():
    kinds = [row["kind"] for row in REAL]
    assert min(kinds.count(kind) for kind in ("letter", "choice", "word", "number")) >= 8


@pytest.mark.parametrize(
    ("choices", "completion", "answer"),
    [
        (["Paris", "Rome"], " Paris.", "0"),
        (["Paris", "Rome"], "\n\nROME\nQuestion: What", "1"),
        (["Paris", "Rome"], '"Rome"', "1"),
        (["Paris", "Rome"], "Rome\u2014of course", "1"),
        (["Paris", "Rome"], "It is Rome", None),  # a prefix match, no search
        (["Paris", "Rome"], "", None),
        (["Paris", "Rome"], "Rom", None),
        (["Niger", "Chad"], "Nigeria", None),  # whole words
        (["Niger", "Nigeria"], "Nigeria is", "1"),
        (["Guinea", "Guinea-Bissau"], "Guinea-Bissau", "1"),  # longest first
        (["Guinea", "Guinea-Bissau"], "Guinea Bissau", "1"),
        (["Guinea", "Guinea-Bissau"], "Guinea, on the coast", "0"),
        (["Port-au-Prince", "Havana"], "Port au Prince", "0"),
        (["N'Djamena", "Abuja"], "Ndjamena", "0"),
        (["St. John's", "Roseau"], "St Johns", "0"),
        (["Sao Tome", "Malabo"], "São Tomé", "0"),
        (["the Netherlands", "Belgium"], "Netherlands", "0"),
        (["Netherlands", "Belgium"], "The Netherlands", "0"),
        (["Paris", "paris"], "PARIS", None),  # ambiguous
        (["Paris", "paris"], "paris", "1"),
        (["Paris", "..."], "...", None),  # a choice without a letter is never named
        ([], "Paris", None),
        (["15", "1.5", "-15"], " 1.5", "1"),
        (["15", "1.5", "-15"], " -15.", "2"),
        (["15", "20"], " 1.5", None),
        (["5", "7"], " -5", None),
        (["5", "7"], "- 5", "0"),  # a point of a list
        (["$1,000", "$100"], "1000 dollars", "0"),
        (["50%", "50"], "50", "1"),
        (["x+1", "x-1"], " x-1.", "1"),
        (["x+1", "x-1"], " x 1", None),
        (["BB", "Bb", "bb"], "Bb\n", "1"),
    ],
)
def test_read_choice(choices, completion, answer):
    assert read_choice(choices, completion).answer == answer


@pytest.mark.parametrize(
    ("completion", "cause"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("Berlin", "names no option"),
        ("...", "names no option"),
        ("x 1", "names several options"),
        ("I'm sorry, but I cannot help with that.", "refuses"),
        ("I\u2019m not able to say", "refuses"),
        ("As an AI language model, I", "refuses"),
        ("I do not know", "refuses"),
        ("I cannot answer", "refuses"),
    ],
)
def test_why_no_choice_was_read(completion, cause):
    assert read_choice(["Paris", "x+1", "x-1"], completion) == (None, cause)


@pytest.mark.parametrize(
    ("completion", "index"),
    [
        ("B", 1),
        (" B.", 1),
        ("(b)", 1),
        ("b", 1),
        ("b) ripping tiles", 1),
        ("[D]", 3),
        ("**C**", 2),
        ("**Answer:** C", 2),
        ("The answer is D", 3),
        ("the correct answer is: (C).", 2),
        ("Answer: B) ripping", 1),
        ("Option C is right", 2),
        ("The best choice would be:\n\nC. a cup", 2),
        ("A", 0),
        ("A.", 0),
        ("A) A man", 0),
        ("A, a man", 0),
        ("A\nA man", 0),
        ("A is correct", 0),
        ("A because it is", 0),
        ("B because it is", 1),
        ("B, A man rips", 1),
        ("B\n\nQuestion: Who?\nAnswer: C", 1),
        ("$\\boxed{\\text{(C)}}$", 2),
        ("\u200fB", 1),  # a mark of right-to-left writing
        ("\uff22", 1),  # full width
        ("C. C.", 2),
    ],
)
def test_a_letter_is_read(completion, index):
    assert read_letter(4, completion) == (str(index), None)


@pytest.mark.parametrize(
    ("completion", "cause"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("A man is sitting on a roof", "names no option"),
        ("a man", "names no option"),
        ("I think so", "names no option"),
        ("The answer is a man", "names no option"),
        ("E", "names no option"),  # there are four
        ("C++", "names no option"),
        ("D'Artagnan", "names no option"),
        ("D.C. is a city", "names no option"),
        ("Because", "names no option"),
        ("no\nQuestion: Who?\nAnswer: C", "names no option"),  # the answer to another question
        ("A or B", "names several options"),
        ("A/B", "names several options"),
        ("(A) and (C)", "names several options"),
        ("Both B and C", "names several options"),
        ("The answer is A or D.", "names several options"),
        ("I'm sorry, I can't help", "refuses"),
    ],
)
def test_no_letter_is_read(completion, cause):
    assert read_letter(4, completion) == (None, cause)


@pytest.mark.parametrize(
    ("words", "completion", "reading"),
    [
        (JUDGEMENT, " acceptable", ("0", None)),
        (JUDGEMENT, "Unacceptable.", ("1", None)),
        (JUDGEMENT, "**Acceptable**", ("0", None)),
        (JUDGEMENT, "not acceptable", ("1", None)),
        (JUDGEMENT, "It is wrong, since", ("1", None)),
        (JUDGEMENT, "It isn't wrong", ("0", None)),
        (JUDGEMENT, "I don\u2019t think it is right", ("1", None)),
        (JUDGEMENT, "It is not unacceptable", ("0", None)),
        (JUDGEMENT, "This is not right. This is wrong.", ("1", None)),
        (JUDGEMENT, "Acceptable. Unacceptable would be", ("0", None)),  # the first decides
        (JUDGEMENT, "right or wrong", (None, "names several options")),
        (JUDGEMENT, "right/wrong", (None, "names several options")),
        (JUDGEMENT, "not only wrong", (None, "names no option")),
        (JUDGEMENT, "Yes", (None, "names no option")),
        (JUDGEMENT, "The rightful heir", (None, "names no option")),
        (JUDGEMENT, "I cannot judge people.", (None, "refuses")),
        (JUDGEMENT, "", (None, "empty")),
        (GENRES, "A drama", ("1", None)),
        (GENRES, "Not known", ("2", None)),
        (GENRES, "not a drama", (None, "names no option")),  # which of the others?
        (GENRES, "drama or comedy", (None, "names several options")),
        ((("a",), ("A",)), "a", (None, "names several options")),
    ],
)
def test_read_word(words, completion, reading):
    assert read_word(words, completion) == reading


@pytest.mark.parametrize(
    ("completion", "reading"),
    [
        (" 18", ("18", None)),
        ("\n\n18\n\nQuestion: 5?", ("18", None)),
        (" $1,200.00.", ("1200", None)),
        ("18 dollars", ("18", None)),
        ("9 * 2 = 18", ("18", None)),
        ("", (None, "empty")),
        ("eighteen", (None, "no number")),
        ("CO2", (None, "no number")),
        ("I don't know", (None, "refuses")),
        ("9 or 10", (None, "unclear number")),
        ("1. Janet sells 16", (None, "unclear number")),
        ("Let us see.\n18", (None, "no number")),  # the first line counts
    ],
)
def test_read_number(completion, reading):
    assert read_number(completion) == reading


def test_read_number_of_the_whole_text():
    assert read_number("2 and 3 are\n#### 5", first_line=False).answer == "5"
    assert read_number("2 and 3", first_line=False).cause == "unclear number"


def test_read_text():
    assert read_text('\n "The Blue Whale."\nIt is').answer == "blue whale"
    assert read_text(" ...") == (None, "empty")


READERS = {
    "choice": lambda text: read_choice(["Paris", "x+1", "x-1", "the", ""], text),
    "letter": lambda text: read_letter(4, text),
    "word": lambda text: read_word(JUDGEMENT, text),
    "number": read_number,
    "whole number": lambda text: read_number(text, first_line=False),
    "text": read_text,
}
MARKS = (
    *("A", "b", "(", ")", "**", " or ", "/", "answer is ", "option", "not ", "right", "wrong", "the ", "\n", "-", "1"),
    *(".5", ",", "\x00", "\u202e", "\u0661", "½", "\ud800", "\\boxed{", "####", "I'm sorry", "\u0301"),
)
PIECES = st.lists(st.one_of(st.text(max_size=5), st.sampled_from(MARKS)), max_size=12).map("".join)


@settings(deadline=None)
@given(st.one_of(st.text(), PIECES))
def test_readers_are_total_and_give_an_answer_or_a_cause(completion):
    for name, read in READERS.items():
        answer, cause = read(completion)
        assert (answer is None) == (cause in CAUSES), name
        assert read(completion) == (answer, cause)


@given(st.lists(st.text(), max_size=5), st.text())
def test_read_choice_names_a_choice_or_nothing(choices, completion):
    assert read_choice(choices, completion).answer in {None, *map(str, range(len(choices)))}


@given(st.integers(0, 26), PIECES)
def test_read_letter_names_an_option_that_there_is(count, completion):
    assert read_letter(count, completion).answer in {None, *map(str, range(count))}


@pytest.mark.parametrize("name", [name for name in READERS if name != "whole number"])
@pytest.mark.parametrize("piece", ["a", "A or ", "- ", "1,", "answer is ", "\u0301", "\u202e"])
def test_a_megabyte_is_read_in_time(name, piece):
    READERS[name](piece * (10**6 // len(piece)))  # what is quadratic would take minutes


@given(
    st.lists(
        st.from_regex(r"[A-Za-z]{1,8}( [A-Za-z]{1,8})?", fullmatch=True), min_size=2, max_size=4, unique_by=str.lower
    )
)
def test_a_choice_reads_back_unless_another_reads_the_same(choices):
    for index, choice in enumerate(choices):
        assert read_choice(choices, f" {choice}!").answer in (str(index), None)


@given(st.integers(0, 25), st.sampled_from(["{}", " {}.", "({})", "{})", "**{}**", "The answer is {}", "Answer: {}\n"]))
def test_a_letter_reads_back(index, form):
    assert read_letter(26, form.format(chr(ord("A") + index))).answer == str(index)
