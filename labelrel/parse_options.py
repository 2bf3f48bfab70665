"""Options of the command line that are more than one word."""

from __future__ import annotations

from typing import Any, Literal

import yaml

from labelrel.errors import ConfigError


def method_params(given: list[str]) -> dict[str, dict[str, Any]]:
    """Return method → parameters from texts such as "dawid_skene.iterations=50".

    The value is read as YAML, as it would be in params.yaml.

    Raises:
        ConfigError: a text of another form.
    """
    params: dict[str, dict[str, Any]] = {}
    for text in given:
        place, equals, value = text.partition("=")
        method, dot, key = place.partition(".")
        if not (equals and dot and method and key):
            raise ConfigError(
                f"--param {text!r} is not of the form METHOD.KEY=VALUE, such as dawid_skene.iterations=50."
            )
        try:
            params.setdefault(method, {})[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--param {text!r}: {value!r} is not a value that YAML can read.") from None
    return params


def temperature_of(text: str) -> float | Literal["auto"]:
    """Return the temperature that an option says.

    Raises:
        ConfigError: neither "auto" nor a number.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--temperature must be a number above 0 or 'auto', got {text!r}.") from None


def refuse_without_answers(options: list[str]) -> None:
    """Raise ConfigError where options of a table of one's own are given for a project.

    Args:
        options: the names of those given.
    """
    if options:
        raise ConfigError(
            f"{options[0]} is for a table of your own: name the file of answers; "
            "in a project, params.yaml holds the settings and gold_dev the gold labels."
        )
