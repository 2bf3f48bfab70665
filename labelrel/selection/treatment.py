"""What a method of a comparison is: a rule for the labels, a loss, and maybe a second look by the strong model.

A section of `select` names all three; its other keys are the rule's own parameters:

    select:
      methods: [filter, doubt, two_stage]
      filter: {quantile: 0.5}                                # the rule of that name, its usual loss
      doubt: {rule: naive, loss: {name: confidence}}
      two_stage: {rule: filter, then: {relabel: discarded}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from labelrel import plugin
from labelrel.errors import ConfigError, UnknownNameError
from labelrel.losses import Loss, losses
from labelrel.selection.base import Rule, rules

RESERVED = ("rule", "loss", "then")


class Then(plugin.Params):
    """What the strong model does with what it has learnt.

    Attributes:
        relabel: `discarded`: it answers the items that the rule left out, and those it answers alike in
            every wording join (two stages; arXiv 2503.04249). `all`: its answers replace the supervisor's
            and go through the rule again (rounds; arXiv 2312.09390, bootstrapping).
        times: how often.
        agreement: least share of its answers that a discarded item needs to join.
    """

    relabel: Literal["discarded", "all"]
    times: int = Field(1, ge=1, le=10, description="how often")
    agreement: float = Field(1.0, gt=0, le=1, description="least share of alike answers for a discarded item to join")


@dataclass(frozen=True)
class Treatment:
    """A checked section of `select`.

    Attributes:
        name: of the method.
        rule: makes the labels.
        params: the rule's parameters, those that were given.
        loss: what trains on them.
        loss_params: its parameters, those that were given.
        then: the second look; None where there is none.
    """

    name: str
    rule: Rule
    params: dict[str, Any]
    loss: Loss
    loss_params: dict[str, Any]
    then: Then | None

    def record(self) -> dict[str, Any]:
        """Return rule, loss and second look as JSON-able values, every default spelled out."""
        return {
            "rule": self.rule.name,
            "loss": {"name": self.loss.name, **self.loss.parse(self.loss_params, "loss").model_dump()},
            "then": None if self.then is None else self.then.model_dump(),
        }


def treatment(name: str, section: Mapping[str, Any] | None = None, *, where: str | None = None) -> Treatment:
    """Read a section of `select`.

    Args:
        name: of the method.
        section: its section; None is an empty one.
        where: where the name was read, for the message; None: select.NAME.

    Raises:
        ConfigError: anything wrong with it, all told at once.
        UnknownNameError: no such rule.
    """
    section = dict(section or {})
    named = section.get("rule") or name
    rule = rules.get(named if isinstance(named, str) else str(named), where=where or f"select.{name}")
    problems = check_section(name, section)
    if problems:
        raise ConfigError("; ".join(problems) + ".")
    loss, loss_params = _loss(rule, section.get("loss"))
    then = section.get("then")
    return Treatment(
        name,
        rule,
        {key: value for key, value in section.items() if key not in RESERVED},
        losses.get(loss),
        loss_params,
        None if then is None else Then.model_validate(then),
    )


def check_section(name: str, section: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a section of `select`, one line each; empty where all is well."""
    named = section.get("rule") or name
    place = f"select.{name}"
    try:
        where = f"{place}.rule" if section.get("rule") else "params.yaml (select.methods)"
        rule = rules.get(named if isinstance(named, str) else str(named), where=where)
    except UnknownNameError as error:
        return [str(error)]
    problems = rule.problems({k: v for k, v in section.items() if k not in RESERVED}, place)
    given = section.get("loss")
    if given is not None and not isinstance(given, (str, dict)):
        problems.append(f"{place}.loss must be a name or a section with `name`, got {given!r}")
    else:
        try:
            loss, params = _loss(rule, given)
            problems += losses.get(loss, where=f"{place}.loss").problems(params, f"{place}.loss")
        except UnknownNameError as error:
            problems.append(str(error))
        except KeyError:
            problems.append(f"{place}.loss has no `name`; allowed: {', '.join(losses)}")
    then = section.get("then")
    if then is not None:
        kind = plugin.Plugin(name="then", function=treatment, params=Then)
        problems += (
            kind.problems(then, f"{place}.then")
            if isinstance(then, dict)
            else [f"{place}.then must be a section with `relabel`, got {then!r}"]
        )
        if rule.role != "method":
            problems.append(f"{place}.then: rule '{rule.name}' is a {rule.role} and has no second look")
    return problems


def _loss(rule: Rule, given: Any) -> tuple[str, dict[str, Any]]:
    """Return name and parameters of the loss: what the section says, else the rule's own."""
    if given is None:
        return rule.loss, {}
    if isinstance(given, str):
        return given, {}
    return str(given["name"]), {key: value for key, value in given.items() if key != "name"}
