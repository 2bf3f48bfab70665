"""Where the files of a project lie, and what may be said about its settings before any work."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from labelrel.config import Config, load_config
from labelrel.errors import ConfigError, LabelrelError
from labelrel.report import Sources


@dataclass(frozen=True)
class Project:
    """A folder with `params.yaml` and the data made from it.

    Attributes:
        root: the folder.
        config: its settings, with whatever the command line overrode.
    """

    root: Path
    config: Config

    @property
    def data(self) -> Path:
        """Return the folder of everything the stages write."""
        return self.root / "data"

    @property
    def items(self) -> Path:
        """Return the items table."""
        return self.data / "items.parquet"

    @property
    def models(self) -> Path:
        """Return the record of which models were fetched."""
        return self.data / "models.json"

    @property
    def supervisor(self) -> Path:
        """Return the folder of the tuned weak supervisor."""
        return self.data / "supervise"

    @property
    def answers(self) -> Path:
        """Return the answers table."""
        return self.data / "answers.parquet"

    @property
    def scores(self) -> Path:
        """Return the scores table."""
        return self.data / "scores.parquet"

    @property
    def training(self) -> Path:
        """Return the folder of training sets, one per method."""
        return self.data / "training"

    @property
    def align(self) -> Path:
        """Return the folder of aligned models, one per method and seed."""
        return self.data / "align"

    @property
    def report(self) -> Path:
        """Return the folder of the report."""
        return self.data / "report"

    @property
    def cache(self) -> Path:
        """Return the folder of what can be lost: trunk outputs, unfinished answers."""
        return self.data / "cache"

    def sources(self) -> Sources:
        """Return where the report reads from."""
        return Sources.under(self.data)


def open_project(
    params: Path, *, sections: list[str] | None = None, overrides: dict[str, Any] | None = None
) -> Project:
    """Read a params file and check all that can be known without touching data.

    Args:
        params: the YAML file; its folder is the project.
        sections: the sections that must be in the file; None means all.
        overrides: "section.key" → value from the command line; null ones are not given.

    Raises:
        ConfigError: anything wrong in the file, all at once.
    """
    config = load_config(params, sections=sections, check=check_names)
    for place, value in (overrides or {}).items():
        if value is not None:
            config = _override(config, place, value)
    problems = check_names(config)
    if problems:
        raise ConfigError(f"{params}: " + "; ".join(problems))
    return Project(params.resolve().parent, config)


def check_names(config: Config) -> list[str]:
    """Return one line for each name in the settings that no registry knows, and what does not fit together."""
    from labelrel.models.reference import parse_reference
    from labelrel.scoring import methods
    from labelrel.selection import check_params, reads
    from labelrel.supervise import engines
    from labelrel.tasks import tasks

    problems = [
        *_lookup(lambda: tasks.get(config.prepare.task, where="prepare.task")),
        *_lookup(lambda: engines.get(config.sample.engine, where="sample.engine")),
        *_options(config.sample.engine, engines, config.sample.options, "sample.options"),
        *_options(config.prepare.task, tasks, config.prepare.options, "prepare.options"),
        *_orders(config),
        *_lookup(lambda: parse_reference(config.supervise.model), "supervise.model: "),
        *_lookup(lambda: parse_reference(config.align.model), "align.model: "),
    ]
    for name in config.score.methods:
        problems += _lookup(partial(methods.get, name, where="score.methods"))
    for name, given in config.score.sections().items():
        wrong = _lookup(partial(methods.get, name, where="score"))
        problems += wrong or methods.get(name).problems(given, f"score.{name}")
    for name in config.select.methods:
        wrong = check_params(name, config.select.params(name))
        problems += wrong
        absent = [] if wrong else [m for m in reads(name, config.select.params(name)) if m not in config.score.methods]
        problems += [f"select.methods has '{name}', which reads '{m}': add it to score.methods" for m in absent]
    extra = set(config.select.sections()) - set(config.select.methods)
    problems += [
        line for name in sorted(extra) for line in check_params(name, config.select.params(name))
    ]  # a section for a rule that is not run is fine, one for a rule that does not exist is a typing error
    return problems


def _options(name: str, registry: Any, options: dict[str, Any], section: str) -> list[str]:
    return registry.get(name).problems(options, section) if name in registry else []


def _orders(config: Config) -> list[str]:
    """Say where there is nothing to put in order: options that no prompt lists, and no answer words."""
    from labelrel.tasks import tasks

    name = config.prepare.task
    if config.prompt.vary != "order" or config.prompt.options == "listed":
        return []
    if name not in tasks or tasks.get(name).orders is not None:
        return []
    return [f"prompt.vary is 'order', but task '{name}' has an order only where prompt.options is 'listed'"]


def _lookup(call: Any, prefix: str = "") -> list[str]:
    try:
        call()
    except LabelrelError as error:
        return [prefix + str(error).rstrip(".")]
    return []


def _override(config: Config, place: str, value: Any) -> Config:
    section, key = place.split(".")
    old = getattr(config, section)
    try:
        new = type(old).model_validate({**old.model_dump(), key: value})
    except ValueError as error:
        message = str(error).splitlines()[2].strip() if len(str(error).splitlines()) > 2 else str(error)
        raise ConfigError(f"{place}: {message}") from None
    return config.model_copy(update={section: new})
