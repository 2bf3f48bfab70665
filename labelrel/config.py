"""`params.yaml` → checked, frozen settings; every mistake in the file is told at once.

Precedence: an option given on the command line > `params.yaml` > the default here. A params
file that has a section must have all of its keys: DVC records what the file says, and a default
that changed in the code would otherwise change results without a trace.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from labelrel.errors import ConfigError, near_match
from labelrel.schema import SPLITS

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _each_once(values: list[Any]) -> list[Any]:
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} is listed twice")
    return values


Once = AfterValidator(_each_once)


class _Section(BaseModel):
    # protected_namespaces: `model` and `model_...` are field names of ours
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, protected_namespaces=())


class Trunk(_Section):
    """The cache of the frozen layers below the adapted ones."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto", description="precision on disk; auto: float16, or float32 where that would lose more than it may"
    )
    max_gib: PositiveFloat = Field(8.0, description="most disk space, GiB; what was used longest ago goes first")


class Base(_Section):
    """What every stage reads."""

    seed: int = Field(42, ge=0, description="seed of everything that draws: splits, answers, data order, adapters")
    threads: int = Field(2, ge=1, description="CPU threads; a part of the result, since sums change with it")
    device: Literal["cpu", "cuda", "auto"] = Field("cpu", description="where models run")
    trunk: Trunk = Trunk()


class Sizes(_Section):
    """Number of items per split."""

    weak_train: Positive = 360
    w2s: Positive = 320
    gold_dev: Annotated[int, Field(ge=0)] = 60
    test: Positive = 300


class Prepare(_Section):
    """Data set → items."""

    task: str = Field("world_facts", description="a registered task; `labelrel tasks` lists them")
    source: str | None = Field(None, description="folder with the task's files, or 'hub'; null: the task's own")
    sizes: Sizes = Sizes()
    options: dict[str, Any] = Field({}, description="settings of the task itself, such as the columns of `table`")
    paraphrases: str | None = Field(None, description="table of questions in other words (item_id, paraphrase)")


class Prompt(_Section):
    """How items are worded, and what differs between the query variants of an item."""

    options: Literal["hidden", "listed"] = Field(
        "hidden", description="'listed': the prompt shows the options; 'hidden': they are scored as its continuations"
    )
    answer: Literal["text", "letter"] = Field("text", description="answer by the option's text or, listed, its letter")
    vary: Literal["wording", "order", "paraphrase"] = Field("wording", description="what differs between the variants")
    templates: list[str] | None = Field(
        None, min_length=1, description="your own prompts with {question} and, listed, {options}; null: the task's"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.answer == "letter" and self.options != "listed":
            raise ValueError("prompt.answer 'letter' needs prompt.options 'listed': a letter means nothing unlisted")
        needed = ["{question}", "{options}"] if self.options == "listed" else ["{question}"]
        for template in self.templates or ():
            missing = [mark for mark in needed if template.count(mark) != 1]
            if missing:
                raise ValueError(f"prompt.templates: {template!r} must hold {' and '.join(missing)} exactly once")
            if template != template.rstrip():
                raise ValueError(f"prompt.templates: {template!r} ends in a blank; answers bring theirs")
        return self


class Lora(_Section):
    """Low-rank adapter (Hu et al. 2021)."""

    rank: Positive = 16
    alpha: PositiveFloat = 32.0
    dropout: Share = 0.0
    variant: Literal["lora", "dora", "rslora"] = Field(
        "lora",
        description="dora: direction and magnitude apart (Liu et al. 2024); rslora: scaled by alpha / sqrt(rank)",
    )


class Supervise(_Section):
    """The weak supervisor: a weak model tuned on the gold labels of `weak_train`."""

    model: str = Field("smollm2-135m@layers=10", description="model reference of the weak supervisor")
    variants: Positive = Field(5, description="number of wordings in which each gold label is taught")
    epochs: PositiveFloat = Field(6.0, description="passes over the items, each time in one of the wordings")
    batch_size: Positive = 8
    learning_rate: PositiveFloat = 3e-3
    top_layers: int | None = Field(5, ge=1, description="adapt only the last K layers; null: all")
    lora: Lora = Lora(dropout=0.1)


class Sample(_Section):
    """Ask the supervisor several times per question."""

    engine: str = Field("transformers", description="who answers; `labelrel engines` lists them")
    options: dict[str, Any] = Field({}, description="settings of the engine, such as the base_url of `openai`")
    mode: Literal["choice", "generate"] = Field(
        "choice", description="'choice': by the probability of each option; 'generate': by reading what is written"
    )
    splits: Annotated[list[Literal[SPLITS]], Once] = Field(["w2s", "gold_dev"], min_length=1)  # type: ignore[valid-type]
    variants: Positive = Field(5, description="number of wordings asked per item")
    temperature: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="of the draw over options or tokens; 0 is the best one"
    )
    max_new_tokens: Positive = Field(50, description="longest completion, where text is generated")


class _WithSections(BaseModel):
    """A section with a list of names, and a section of parameters for any of them.

    The parameters of a name are checked by the registry that owns it.
    """

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    methods: Annotated[list[str], Once] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_have_sections(self) -> Self:
        for name, params in (self.model_extra or {}).items():
            if params is not None and not isinstance(params, dict):
                place = type(self).__name__.lower()
                raise ValueError(f"{place}.{name} must be a section with keys, got {params!r}")
        return self

    def sections(self) -> dict[str, Any]:
        """Return name → parameters for every section there is; an empty section is an empty dict."""
        return {name: dict(params or {}) for name, params in (self.model_extra or {}).items()}

    def params(self, method: str) -> dict[str, Any]:
        """Return the parameters of one name; none given is an empty dict."""
        return dict(self.sections().get(method, {}))


class Score(_WithSections):
    """Answers → reliability scores: which methods, and one section of parameters per method that has any."""

    methods: Annotated[list[str], Once] = Field(
        [
            "share",
            "entropy",
            "reliability",
            "self_confidence",
            "normalized_margin",
            "confidence_weighted_entropy",
            "crowdlab",
        ],
        min_length=1,
    )
    protocol: Literal["default", "paper"] = Field("default", description="'paper' keeps the published code's quirks")
    temperature: PositiveFloat | Literal["auto"] = Field(
        0.2, description="T of the paper's reliability, softmax(share / T); 'auto' is 1 / n"
    )


class Select(_WithSections):
    """Scores → training sets: which rules, and one section of parameters per rule."""


class EarlyStop(_Section):
    """Stop when the accuracy on gold_dev no longer rises, and keep the best adapter."""

    every: Positive = Field(description="optimiser steps between two looks at gold_dev")
    patience: Positive = Field(description="looks without a better accuracy before the training stops")


class Align(_Section):
    """LoRA on the strong model, the same budget for every method."""

    model: str = Field("smollm2-135m", description="model reference of the strong model")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0], min_length=1, description="training seeds, one run each per method"
    )
    epochs: PositiveFloat = Field(2.0, description="passes over the full w2s split; smaller sets see as many items")
    batch_size: Positive = 16
    learning_rate: PositiveFloat = 5e-4
    top_layers: int | None = Field(8, ge=1, description="adapt only the last K layers and cache the rest; null: all")
    lora: Lora = Lora()
    early_stop: EarlyStop | None = Field(None, description="null: every method trains all of its steps")
    gradient_checkpointing: bool = Field(False, description="compute activations anew: less memory, a third slower")
    load_in_8bit: bool = Field(False, description="hold the frozen weights in 8 bits; CUDA only, needs bitsandbytes")


class Report(_Section):
    """Table, figures, page."""

    bootstrap: int = Field(2000, ge=100, description="resamples of the test items")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="level of every interval")


SECTIONS: dict[str, type[BaseModel]] = {
    "base": Base,
    "prepare": Prepare,
    "prompt": Prompt,
    "supervise": Supervise,
    "sample": Sample,
    "score": Score,
    "select": Select,
    "align": Align,
    "report": Report,
}


class Config(BaseModel):
    """All sections of one params file."""

    model_config = ConfigDict(frozen=True)

    base: Base = Base()
    prepare: Prepare = Prepare()
    prompt: Prompt = Prompt()
    supervise: Supervise = Supervise()
    sample: Sample = Sample()
    score: Score = Score()
    select: Select = Select(methods=["naive", "majority", "filter"])
    align: Align = Align()
    report: Report = Report()


def load_config(
    path: Path | str = "params.yaml",
    *,
    sections: list[str] | None = None,
    check: Callable[[Config], list[str]] | None = None,
) -> Config:
    """Read a params file and check it, all mistakes at once.

    Args:
        path: the YAML file.
        sections: the sections that must be there; None means all of them. Others are checked
            when present and keep their defaults when not.
        check: finds what else is wrong in the sections that could be read; asked only where
            something is wrong already, so that the message has everything.

    Raises:
        ConfigError: no such file, not YAML, or any missing, unknown or impossible key.
    """
    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no such file: {path}; run inside the project, or name one with --params") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds {type(document).__name__}, not sections; expected: {', '.join(SECTIONS)}.")
    problems = [
        f"unknown section '{name}'{near_match(str(name), SECTIONS)}" for name in document if name not in SECTIONS
    ]
    needed = list(SECTIONS) if sections is None else sections
    problems += [f"missing section '{name}'" for name in needed if name not in document]
    parsed: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        if name not in document:
            continue
        content = document[name]
        if not isinstance(content, dict):
            problems.append(f"{name} must be a section with keys, got {content!r}")
            continue
        problems += _missing_keys(section, content, name)
        try:
            parsed[name] = section.model_validate(content)
        except ValidationError as error:
            problems += [_problem(section, name, e) for e in error.errors() if e["type"] != "missing"]
    if problems:
        problems += check(Config(**parsed)) if check else []
        raise ConfigError(f"{path}: " + "; ".join(problems))
    return Config(**parsed)


def _missing_keys(section: type[BaseModel], content: dict[str, Any], place: str) -> list[str]:
    problems = []
    for key, field in section.model_fields.items():
        if key not in content:
            default = "" if field.is_required() else f" (the default is {_yaml(field.default)})"
            problems.append(f"missing key {place}.{key}{default}")
        elif isinstance(content[key], dict) and isinstance(field.annotation, type):
            problems += _missing_keys(field.annotation, content[key], f"{place}.{key}")
    return problems


def _yaml(value: Any) -> str:
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()


def _problem(section: type[BaseModel], name: str, error: Any) -> str:
    place = ".".join([name, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        owner = section
        for part in error["loc"][:-1]:
            owner = owner.model_fields[part].annotation  # type: ignore[assignment]
        return f"unknown key {place}{near_match(str(error['loc'][-1]), owner.model_fields)}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and not error["loc"]:
        return str(message)  # names its place itself
    return f"{place}: {message[0].lower()}{message[1:]}, got {error['input']!r}"
