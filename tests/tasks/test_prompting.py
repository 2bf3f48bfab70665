"""From wordings to prompts (listed options, letters, orders, templates, paraphrases) and back to the item's terms."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelrel.config import Prompt
from labelrel.errors import ConfigError
from labelrel.schema import ITEMS
from labelrel.tasks import Prompting, Reading, Task, Wording
from labelrel.tasks.prompting import LETTERS, LISTED
from labelrel.tasks.reading import read_choice

CHOICES = ["Oslo", "Rome", "Lima", "Cairo"]


def item(**entries: Any) -> dict[str, Any]:
    row = dict.fromkeys(ITEMS.names())
    return {**row, "item_id": "q1", "question": "What is the capital of Peru?", "choices": CHOICES, **entries}


def _wordings(item: Any) -> list[Wording]:
    options = None if item["choices"] is None else tuple(f" {choice}" for choice in item["choices"])
    return [Wording(f"{item['question']} ->", options), Wording(f"Say: {item['question']}", options)]


def _parse(item: Any, completion: str) -> Reading:
    if item["choices"] is None:
        return Reading(completion.strip() or None, None if completion.strip() else "empty")
    return read_choice(item["choices"], completion)


def task(**changes: Any) -> Task:
    entries: dict[str, Any] = {"name": "toy", "kind": "choice", "wordings": _wordings, "parse": _parse}
    return Task(summary="cities", source="made up", load=lambda *arguments: None, **{**entries, **changes})


def _orders(item: Any) -> list[Wording]:
    return [
        Wording(f"{item['question']} {one} or {other}?", (" yes", " no")) for one, other in permutations(["yes", "no"])
    ]


def worded(change: dict[str, Any] | None = None, seed: int = 42, **settings: Any) -> Prompting:
    return Prompting(task(**(change or {})), Prompt(**settings), seed)


def shown(wording: Wording, choices: list[str] = CHOICES) -> list[str]:
    """Return the choices in the order in which a prompt lists them."""
    return sorted(choices, key=wording.prompt.index)


# --- the task's own wordings ---------------------------------------------------------------------


def test_without_settings_a_task_words_itself() -> None:
    assert worded().variants(item(), 2) == _wordings(item())
    assert worded().canonical(item()) == _wordings(item())[0]


def test_more_variants_than_wordings_are_refused_with_the_number_there_is() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^3 variants .* task 'toy' has 2 wordings for item q1; set variants to at most 2\.$",
    ):
        worded().variants(item(), 3)


@pytest.mark.parametrize("vary", ["wording", "order", "paraphrase"])
@pytest.mark.parametrize("answer", ["text", "letter"])
def test_canonical_wording_is_the_first_variant(vary: Any, answer: Any) -> None:
    prompting = worded(options="listed", answer=answer, vary=vary)
    asked = item(paraphrases=["Peru's capital?", "Capital of Peru?"])
    assert prompting.canonical(asked) == prompting.variants(asked, 3)[0]
    assert prompting.canonical(asked).prompt == worded(options="listed", answer=answer).canonical(asked).prompt


# --- options in the prompt -----------------------------------------------------------------------


def test_listed_options_stand_in_the_prompt_and_are_answered_by_their_text() -> None:
    wording = worded(options="listed").canonical(item())
    assert wording.prompt == ("Question: What is the capital of Peru?\n- Oslo\n- Rome\n- Lima\n- Cairo\nAnswer:")
    assert wording.options == (" Oslo", " Rome", " Lima", " Cairo")


def test_letters_stand_before_the_options_and_are_the_answers() -> None:
    wording = worded(options="listed", answer="letter").canonical(item())
    assert wording.prompt == ("Question: What is the capital of Peru?\nA. Oslo\nB. Rome\nC. Lima\nD. Cairo\nAnswer:")
    assert wording.options == (" A", " B", " C", " D")


def test_wordings_that_list_options_are_those_of_every_task() -> None:
    wordings = worded(options="listed").variants(item(), len(LISTED))
    assert len({wording.prompt for wording in wordings}) == len(LISTED) == 5
    for wording in wordings:
        assert shown(wording) == CHOICES
        assert item()["question"] in wording.prompt
        assert wording.prompt == wording.prompt.rstrip()
    with pytest.raises(ConfigError, match="has 5 wordings"):
        worded(options="listed").variants(item(), 6)


def test_open_item_is_asked_in_its_own_words_whatever_is_listed() -> None:
    asked = item(choices=None)
    assert worded(options="listed", answer="letter").variants(asked, 2) == _wordings(asked)


def test_task_with_fixed_answer_words_is_asked_in_its_own_words_whatever_is_listed() -> None:
    binary = worded({"orders": _orders, "kind": "binary"}, options="listed", answer="letter")
    assert binary.variants(item(), 2) == _wordings(item())


def test_more_choices_than_letters() -> None:
    many = item(choices=[f"city {n}" for n in range(27)])
    with pytest.raises(ConfigError, match=r"^item q1 has 27 choices, more than there are letters; set prompt\.answer"):
        worded(options="listed", answer="letter").canonical(many)
    assert len(worded(options="listed").canonical(many).options or ()) == 27
    assert (
        len(worded(options="listed", answer="letter").canonical(item(choices=many["choices"][:26])).options or ()) == 26
    )


# --- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["text", "letter"])
def test_orders_are_all_different_and_the_first_is_the_items_own(answer: Any) -> None:
    wordings = worded(options="listed", answer=answer, vary="order").variants(item(), 24)
    orders = [tuple(shown(wording)) for wording in wordings]
    assert orders[0] == tuple(CHOICES)
    assert sorted(orders) == sorted(permutations(CHOICES))


def test_fewer_orders_are_the_first_of_more() -> None:
    prompting = worded(options="listed", vary="order")
    many = prompting.variants(item(), 24)
    assert [prompting.variants(item(), count) for count in range(1, 24)] == [many[:count] for count in range(1, 24)]


def test_orders_are_drawn_once_and_for_all() -> None:
    """A hash of seed and item, the same in every process and version: answers are kept by variant."""
    wordings = worded(options="listed", vary="order").variants(item(), 5)
    assert [" ".join(choice[0] for choice in shown(wording)) for wording in wordings] == [
        "O R L C", "C L O R", "C L R O", "L C O R", "O C R L",
    ]  # fmt: skip


def test_orders_differ_between_items_and_between_seeds() -> None:
    def orders(item_id: str, seed: int) -> list[list[str]]:
        wordings = worded(options="listed", vary="order", seed=seed).variants(item(item_id=item_id), 5)
        return [shown(wording) for wording in wordings]

    assert orders("q1", 1) == orders("q1", 1)
    drawn = [orders(item_id, seed) for item_id in ("q1", "q2", "q3") for seed in (1, 2, 3)]
    assert len({str(order) for order in drawn}) == 9


def test_each_option_comes_to_each_place_about_equally_often() -> None:
    """The first drawn order of 600 items; of the 23 that are not the items' own, 5 leave a choice in its place."""
    counts = dict.fromkeys([(choice, place) for choice in CHOICES for place in range(4)], 0)
    for number in range(600):
        wording = worded(options="listed", vary="order").variants(item(item_id=f"q{number}"), 2)[1]
        for place, choice in enumerate(shown(wording)):
            counts[choice, place] += 1
    for (choice, place), count in counts.items():
        share = (5 if CHOICES[place] == choice else 6) / 23
        assert abs(count - 600 * share) < 4 * math.sqrt(600 * share * (1 - share))


def test_two_choices_have_two_orders() -> None:
    two = item(choices=["yes", "no"])
    prompting = worded(options="listed", answer="letter", vary="order")
    wordings = prompting.variants(two, 2)
    assert [wording.options for wording in wordings] == [(" A", " B"), (" B", " A")]
    with pytest.raises(ConfigError, match=r"^3 variants .* item q1 has 2 orders of its options; set .* at most 2\.$"):
        prompting.variants(two, 3)


def test_letters_follow_the_option_through_every_order() -> None:
    """`options[i]` is the letter that choice i has in this listing, whatever place that is."""
    for wording in worded(options="listed", answer="letter", vary="order").variants(item(), 24):
        lines = wording.prompt.splitlines()
        for choice, option in zip(CHOICES, wording.options or (), strict=True):
            assert f"{option.strip()}. {choice}" in lines


def test_orders_of_answer_words_are_the_tasks_own() -> None:
    binary = worded({"orders": _orders, "kind": "binary"}, vary="order")
    assert binary.variants(item(), 2) == _orders(item())
    with pytest.raises(ConfigError, match="item q1 has 2 orders"):
        binary.variants(item(), 3)


def test_open_item_has_no_order() -> None:
    with pytest.raises(ConfigError, match=r"item q1 is an open question: it has no options to order \(prompt\.vary\)"):
        worded(options="listed", vary="order").variants(item(choices=None), 1)


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("vary", ["wording", "order"])
@pytest.mark.parametrize("answer", ["text", "letter"])
def test_what_is_offered_is_read_back_as_its_own_choice(answer: Any, vary: Any) -> None:
    prompting = worded(options="listed", answer=answer, vary=vary)
    for wording in prompting.variants(item(), 5):
        read = [prompting.read(item(), wording, option).answer for option in wording.options or ()]
        assert read == ["0", "1", "2", "3"]


@pytest.mark.parametrize("said", [" {}", "{}.", "({})", "The answer is {}.", "{}. because", "Option {}"])
def test_letter_is_read_through_the_order(said: str) -> None:
    prompting = worded(options="listed", answer="letter", vary="order")
    for wording in prompting.variants(item(), 24):
        for place, choice in enumerate(shown(wording)):
            read = prompting.read(item(), wording, said.format(LETTERS[place]))
            assert read == Reading(str(CHOICES.index(choice)))


def test_option_that_is_named_instead_of_its_letter_is_read_too() -> None:
    prompting = worded(options="listed", answer="letter", vary="order")
    for wording in prompting.variants(item(), 5):
        assert [prompting.read(item(), wording, f" {c}.").answer for c in CHOICES] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("said", "cause"),
    [("", "empty"), (" E", "names no option"), ("A or B", "names several options"), ("I am sorry,", "refuses")],
)
def test_what_names_no_option_tells_the_cause(said: str, cause: str) -> None:
    prompting = worded(options="listed", answer="letter", vary="order")
    assert prompting.read(item(), prompting.variants(item(), 3)[2], said) == Reading(None, cause)


def test_letters_are_not_read_where_options_are_answered_by_text() -> None:
    prompting = worded(options="listed")
    assert prompting.read(item(), prompting.canonical(item()), "C").answer is None
    assert prompting.read(item(), prompting.canonical(item()), " the lima").answer == "2"


def test_unlisted_options_are_read_by_the_task() -> None:
    odd = worded({"parse": lambda item, completion: Reading("3")})
    assert odd.read(item(), odd.canonical(item()), "Oslo") == Reading("3")
    listed = worded({"parse": lambda item, completion: Reading("3")}, options="listed")
    assert listed.read(item(), listed.canonical(item()), "Oslo") == Reading("0")


@pytest.mark.parametrize("settings", [{}, {"options": "listed", "answer": "letter"}])
def test_open_answers_are_read_by_the_task(settings: dict[str, Any]) -> None:
    prompting, asked = worded(**settings), item(choices=None)
    assert prompting.read(asked, prompting.canonical(asked), " B 12") == Reading("B 12")


def test_answer_words_are_read_by_the_task_even_where_options_are_to_be_listed() -> None:
    binary = worded(
        {"orders": _orders, "parse": lambda item, completion: Reading("1")}, options="listed", answer="letter"
    )
    assert binary.read(item(), binary.canonical(item()), "A") == Reading("1")


@given(st.text(max_size=60))
def test_no_text_makes_reading_fail(said: str) -> None:
    prompting = worded(options="listed", answer="letter", vary="order")
    reading = prompting.read(item(), prompting.variants(item(), 3)[2], said)
    assert (reading.answer in ("0", "1", "2", "3")) != (reading.cause is not None)


# --- what is learnt ------------------------------------------------------------------------------


def test_target_is_the_option_of_the_wording() -> None:
    prompting = worded(options="listed", answer="letter", vary="order")
    for wording in prompting.variants(item(), 5):
        place = shown(wording).index("Lima")
        assert prompting.target(item(), wording, "2") == f" {LETTERS[place]}"
    assert worded().target(item(), worded().canonical(item()), "2") == " Lima"


def test_target_of_an_open_item_is_the_tasks() -> None:
    asked = item(choices=None)
    assert worded().target(asked, worded().canonical(asked), "18") == " 18"
    money = worded({"target": lambda item, answer: f" ${answer}"})
    assert money.target(asked, money.canonical(asked), "18") == " $18"


# --- templates -----------------------------------------------------------------------------------


def test_templates_replace_the_tasks_wordings_and_keep_its_options() -> None:
    prompting = worded(templates=["{question} I say", "Well, {question}"])
    assert prompting.variants(item(), 2) == [
        Wording("What is the capital of Peru? I say", _wordings(item())[0].options),
        Wording("Well, What is the capital of Peru?", _wordings(item())[0].options),
    ]
    with pytest.raises(ConfigError, match="has 2 wordings"):
        prompting.variants(item(), 3)


def test_templates_list_the_options() -> None:
    wording = worded(options="listed", answer="letter", templates=["{options}\n{question}"]).canonical(item())
    assert wording.prompt == "A. Oslo\nB. Rome\nC. Lima\nD. Cairo\nWhat is the capital of Peru?"


def test_orders_are_in_the_first_template() -> None:
    prompting = worded(options="listed", vary="order", templates=["{question}\n{options}\nSo:", "{options} {question}"])
    assert all(wording.prompt.endswith("\nSo:") for wording in prompting.variants(item(), 5))


def test_template_of_an_open_item() -> None:
    asked = item(choices=None)
    assert worded(templates=["{question} ="]).variants(asked, 1) == [Wording("What is the capital of Peru? =", None)]


BRACES = "What is {options} in {question}, {0} or {x}?"


@pytest.mark.parametrize("template", ["Q: {question}\n{options}\nA:", "{options}\n{question}\nA:"])
def test_braces_in_the_data_stay_what_they_are(template: str) -> None:
    asked = item(question=BRACES, choices=["{question}", "{options}", "{}"])
    listing = "- {question}\n- {options}\n- {}"
    wording = worded(options="listed", templates=[template]).canonical(asked)
    first, second = (BRACES, listing) if template.startswith("Q") else (listing, BRACES)
    assert wording.prompt == f"{'Q: ' if template.startswith('Q') else ''}{first}\n{second}\nA:"
    assert wording.options == (" {question}", " {options}", " {}")


def test_braces_in_the_data_stay_what_they_are_where_nothing_is_listed() -> None:
    assert worded(templates=["{question} {here}"]).canonical(item(question=BRACES)).prompt == f"{BRACES} {{here}}"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"templates": ["What?"]}, r"prompt\.templates: 'What\?' must hold \{question\} exactly once"),
        ({"templates": ["{question} {question}"]}, r"must hold \{question\} exactly once"),
        ({"options": "listed", "templates": ["{question}"]}, r"must hold \{options\} exactly once"),
        ({"options": "listed", "templates": ["x"]}, r"must hold \{question\} and \{options\} exactly once"),
        ({"templates": ["{question}: "]}, r"prompt\.templates: '\{question\}: ' ends in a blank"),
        ({"templates": []}, "templates"),
        ({"answer": "letter"}, r"prompt\.answer 'letter' needs prompt\.options 'listed'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Prompt(**settings)


# --- paraphrases ---------------------------------------------------------------------------------

OTHERS = ["Peru's capital?", "Capital of Peru?", "Which city is Peru's capital?"]


def test_paraphrases_are_asked_in_the_canonical_wording_the_question_itself_first() -> None:
    prompting = worded(vary="paraphrase")
    wordings = prompting.variants(item(paraphrases=OTHERS), 3)
    assert [wording.prompt for wording in wordings] == [
        "What is the capital of Peru? ->", "Peru's capital? ->", "Capital of Peru? ->",
    ]  # fmt: skip
    assert {wording.options for wording in wordings} == {_wordings(item())[0].options}


@pytest.mark.parametrize("paraphrases", [[], None, OTHERS[:1]])
def test_item_with_fewer_paraphrases_has_fewer_wordings(paraphrases: list[str] | None) -> None:
    wordings = worded(vary="paraphrase").variants(item(paraphrases=paraphrases), 4)
    assert len(wordings) == 1 + len(paraphrases or [])


def test_item_of_a_table_without_paraphrases_has_its_own_question() -> None:
    assert worded(vary="paraphrase").variants(item(), 4) == _wordings(item())[:1]


def test_paraphrases_go_into_listings_and_templates() -> None:
    asked = item(paraphrases=OTHERS)
    listed = worded(options="listed", answer="letter", vary="paraphrase").variants(asked, 2)[1]
    assert listed.prompt == "Question: Peru's capital?\nA. Oslo\nB. Rome\nC. Lima\nD. Cairo\nAnswer:"
    assert listed.options == (" A", " B", " C", " D")
    assert worded(vary="paraphrase", templates=["> {question}"]).variants(asked, 2)[1].prompt == "> Peru's capital?"


def test_the_item_is_left_as_it_was() -> None:
    asked = item(paraphrases=OTHERS)
    before = repr(asked)
    for vary in ("wording", "order", "paraphrase"):
        worded(options="listed", vary=vary).variants(asked, 4)
    assert repr(asked) == before
