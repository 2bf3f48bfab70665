"""Names with one owner, listed as they came, and a helpful line for a name that nobody owns."""

from __future__ import annotations

import pytest

from labelrel.errors import UnknownNameError
from labelrel.registry import Registry


@pytest.fixture
def fruit() -> Registry[int]:
    registry: Registry[int] = Registry("fruit")
    for number, name in enumerate(["pear", "apple", "fig"]):
        registry.add(name, number)
    return registry


def test_get_and_listing_in_order_of_registration(fruit):
    assert fruit.get("apple") == 1
    assert fruit.names() == list(fruit) == ["pear", "apple", "fig"]
    assert len(fruit) == 3
    assert "fig" in fruit
    assert "plum" not in fruit


def test_register_decorates_and_gives_the_thing_back():
    registry: Registry[object] = Registry("verb")

    @registry.register("go")
    def go() -> str:
        return "gone"

    assert go() == "gone"
    assert registry.get("go") is go


def test_a_name_has_one_owner(fruit):
    with pytest.raises(ValueError, match="fruit 'fig' is registered twice"):
        fruit.add("fig", 9)
    assert fruit.get("fig") == 2


def test_names_are_a_copy(fruit):
    fruit.names().clear()
    assert len(fruit) == 3


@pytest.mark.parametrize(
    ("name", "where", "message"),
    [
        ("aple", "", "unknown fruit 'aple'; did you mean 'apple'? Known: pear, apple, fig."),
        ("zzz", "", "unknown fruit 'zzz'. Known: pear, apple, fig."),
        ("aple", "a.b", "unknown fruit 'aple' in a.b; did you mean 'apple'? Known: pear, apple, fig."),
    ],
)
def test_unknown_name_is_told_with_near_match_and_all_names(fruit, name, where, message):
    with pytest.raises(UnknownNameError) as caught:
        fruit.get(name, where=where)
    assert str(caught.value) == message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
