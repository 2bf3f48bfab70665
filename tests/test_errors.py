"""The small words in every message: a near match, and a few ids out of many."""

from __future__ import annotations

import pytest

from labelrel import errors
from labelrel.errors import LabelrelError, near_match, some


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("entorpy", ["share", "entropy"], "; did you mean 'entropy'?"),
        ("zzz", ["share", "entropy"], ""),
        ("share", [], ""),
    ],
)
def test_near_match(name, known, words):
    assert near_match(name, known) == words


def test_near_match_takes_any_iterable_and_the_closest():
    assert near_match("filte", iter(["filler", "filter"])) == "; did you mean 'filter'?"


@pytest.mark.parametrize(
    ("ids", "shown"),
    [([], ""), (["a", "b", "c"], "a, b, c"), (["a", "b", "c", "d"], "a, b, c, …"), (range(2), "0, 1")],
)
def test_some_shows_three_at_most(ids, shown):
    assert some(ids) == shown


def test_every_error_of_ours_is_the_users_mistake():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {"InputError", "ConfigError", "UnknownNameError", "FetchError"} <= {kind.__name__ for kind in kinds}
    assert all(issubclass(kind, LabelrelError) for kind in kinds)
