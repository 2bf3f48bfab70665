"""What a section of `select` says: rule, loss, second look."""

from __future__ import annotations

import pytest

from labelrel.errors import ConfigError, UnknownNameError
from labelrel.selection import check_params, reads, rules, treatment


@pytest.mark.parametrize("name", list(rules))
def test_a_rules_own_name_needs_nothing(name):
    found = treatment(name)
    assert (found.rule.name, found.loss.name, found.then) == (name, rules.get(name).loss, None)


def test_rule_loss_and_second_look_are_read_apart_from_the_rules_parameters():
    section = {
        "rule": "filter",
        "quantile": 0.25,
        "loss": {"name": "confidence", "warmup": 0.2},
        "then": {"relabel": "discarded", "agreement": 0.8},
    }
    found = treatment("careful", section)
    assert found.params == {"quantile": 0.25}
    assert found.record() == {
        "rule": "filter",
        "loss": {"name": "confidence", "max_weight": 0.5, "warmup": 0.2},
        "then": {"relabel": "discarded", "times": 1, "agreement": 0.8},
    }
    assert reads("careful", section) == ("entropy",)


def test_a_loss_may_be_a_name_alone():
    assert treatment("naive", {"loss": "small_loss"}).loss.name == "small_loss"


@pytest.mark.parametrize(
    ("name", "section", "line"),
    [
        ("carefull", {}, "unknown selection rule 'carefull'"),
        ("mine", {"rule": "filtre"}, "did you mean 'filter'"),
        ("mine", {"rule": 3}, "unknown selection rule '3'"),
        ("naive", {"loss": "confidense"}, "did you mean 'confidence'"),
        ("naive", {"loss": 3}, "select.naive.loss must be a name or a section with `name`, got 3"),
        ("naive", {"loss": {"warmup": 1}}, "select.naive.loss has no `name`; allowed: cross_entropy"),
        ("naive", {"loss": {"name": "confidence", "warmup": 2.0}}, "select.naive.loss.warmup is wrong"),
        ("naive", {"loss": {"name": "confidence", "warm": 1}}, "unknown key select.naive.loss.warm; did you mean"),
        ("naive", {"then": {"relabel": "some"}}, "select.naive.then.relabel is wrong"),
        ("naive", {"then": {"times": 2}}, "select.naive.then.relabel"),
        ("naive", {"then": "discarded"}, "select.naive.then must be a section with `relabel`, got 'discarded'"),
        ("naive", {"then": {"relabel": "all", "times": 0}}, "select.naive.then.times is wrong"),
        ("oracle", {"then": {"relabel": "all"}}, "rule 'oracle' is a control and has no second look"),
        ("mine", {"rule": "filter", "quantile": 2}, "select.mine.quantile must lie in [0, 1], got 2"),
    ],
)
def test_mistakes_are_told_with_their_place(name, section, line):
    problems = check_params(name, section)
    assert len(problems) == 1
    assert line in problems[0]
    with pytest.raises((ConfigError, UnknownNameError)):
        treatment(name, section)


def test_all_mistakes_of_a_section_are_told_at_once():
    assert len(check_params("filter", {"quantile": 2, "loss": "none", "then": {}})) == 3
