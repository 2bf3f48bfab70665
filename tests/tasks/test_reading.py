from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelrel.tasks.reading import read_choice


@pytest.mark.parametrize(
    ("choices", "completion", "answer"),
    [
        (["Paris", "Rome"], " Paris.", "0"),
        (["Paris", "Rome"], "\n\nROME\nQuestion: What", "1"),
        (["Paris", "Rome"], '"Rome"', "1"),
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
        (["Paris", "paris"], "Paris", None),  # ambiguous
        (["Paris", "..."], "...", None),  # a choice without a letter is never named
        ([], "Paris", None),
    ],
)
def test_read_choice(choices, completion, answer):
    assert read_choice(choices, completion) == answer


@given(st.lists(st.text(), max_size=5), st.text())
def test_read_choice_never_raises_and_names_a_choice_or_nothing(choices, completion):
    assert read_choice(choices, completion) in {None, *map(str, range(len(choices)))}


@given(
    st.lists(
        st.from_regex(r"[A-Za-z]{1,8}( [A-Za-z]{1,8})?", fullmatch=True), min_size=2, max_size=4, unique_by=str.lower
    )
)
def test_a_choice_reads_back_unless_another_reads_the_same(choices):
    for index, choice in enumerate(choices):
        assert read_choice(choices, f" {choice}!") in (str(index), None)
