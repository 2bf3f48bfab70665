"""Options that are more than one word."""

from __future__ import annotations

import pytest

from labelrel.errors import ConfigError
from labelrel.parse_options import method_params, refuse_without_answers, temperature_of


def test_values_are_what_yaml_makes_of_them():
    given = ["mace.seed=3", "mace.smoothing=0.1", "ensemble.methods=[share, mace]", "x.text=a=b"]
    assert method_params(given) == {
        "mace": {"seed": 3, "smoothing": 0.1},
        "ensemble": {"methods": ["share", "mace"]},
        "x": {"text": "a=b"},
    }


@pytest.mark.parametrize("text", ["mace", "mace.seed", "seed=3", ".seed=3", "mace.=3"])
def test_another_form_is_told(text):
    with pytest.raises(ConfigError, match=r"is not of the form METHOD\.KEY=VALUE"):
        method_params([text])


def test_a_value_that_is_no_yaml_is_told():
    with pytest.raises(ConfigError, match="is not a value that YAML can read"):
        method_params(["mace.seed=["])


def test_temperature():
    assert temperature_of("auto") == "auto"
    assert temperature_of("0.5") == 0.5
    with pytest.raises(ConfigError, match="number above 0 or 'auto', got 'hot'"):
        temperature_of("hot")


def test_options_of_a_table_are_refused_in_a_project():
    refuse_without_answers([])
    with pytest.raises(ConfigError, match="--gold is for a table of your own: name the file of answers"):
        refuse_without_answers(["--gold", "--choices"])
