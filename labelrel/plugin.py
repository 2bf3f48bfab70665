"""What every named method has: a function that documents itself, and checked parameters.

A scoring method and a selection rule are both one function with a docstring and one model of its
parameters, so what is read from them and what is wrong with a parameter is told in one place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from labelrel.errors import ConfigError, near_match


class Params(BaseModel):
    """The parameters of one method; defaults come from its source.

    Strict: "0.5" and true are no numbers, since a params file that says so is a mistake.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A named function with documented source and checked parameters.

    Attributes:
        name: the registered name, the same in params.yaml, in tables and in MLflow.
        function: what does the work; its docstring has a first line, the formula and "Source:".
        params: the model of its parameters.
    """

    name: str
    function: Callable[..., Any]
    params: type[Params] = Params

    @property
    def documented(self) -> Callable[..., Any]:
        """The function whose docstring describes it."""
        return self.function

    @property
    def summary(self) -> str:
        """One line, the first of the docstring."""
        return (self.documented.__doc__ or "").strip().partition("\n")[0]

    @property
    def source(self) -> str:
        """Paper and section, from the docstring."""
        text = inspect.cleandoc(self.documented.__doc__ or "").partition("Source:")[2]
        return " ".join(text.partition("\n\n")[0].split())

    def problems(self, params: Mapping[str, Any], section: str) -> list[str]:
        """Return everything that is wrong with the parameters, one line each; empty where all is well.

        Args:
            params: key → value.
            section: what messages call the place, such as "select.filter".
        """
        try:
            self.params.model_validate(dict(params))
        except ValidationError as error:
            return [_problem(self.params, section, e) for e in error.errors()]
        return []

    def parse(self, params: Mapping[str, Any], section: str) -> Any:
        """Return the checked parameters.

        Raises:
            ConfigError: any of them is unknown or impossible; all are told.
        """
        problems = self.problems(params, section)
        if problems:
            raise ConfigError("; ".join(problems) + ".")
        return self.params.model_validate(dict(params))


def _problem(model: type[Params], section: str, error: Any) -> str:
    key = str(error["loc"][0]) if error["loc"] else ""
    place = f"{section}.{key}" if key else section
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields)
        allowed = f"allowed: {', '.join(known)}" if known else "it has no parameters"
        return f"unknown key {place}{near_match(key, known) or ';'} {allowed}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] != "value_error":
        message = f"is wrong: {message[0].lower()}{message[1:]}"
    return f"{place} {message}, got {error['input']!r}"
