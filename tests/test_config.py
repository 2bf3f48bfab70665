"""params.yaml: every mistake told at once, what is given wins, defaults are named where a key is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from labelrel.config import SECTIONS, Config, load_config
from labelrel.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def document() -> dict[str, Any]:
    """What the repository's params.yaml says, to be spoilt."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def load(tmp_path):
    def write_and_load(content: Any, **options: Any) -> Config:
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
        return load_config(tmp_path / "params.yaml", **options)

    return write_and_load


@pytest.fixture
def problems(load):
    """Load what is wrong and return the problems told, without the file's name."""

    def tell(content: Any, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            load(content, **options)
        message = str(caught.value)
        assert "\n" not in message
        return message.partition("params.yaml")[2].lstrip(": ")

    return tell


def test_the_repositorys_params_load_and_hold_what_they_say(document):
    config = load_config(ROOT / "params.yaml")
    plain = config.model_dump()
    assert plain["prepare"]["sizes"] == document["prepare"]["sizes"]
    assert plain["align"] == {**document["align"], "lora": config.align.lora.model_dump()}
    assert config.select.params("filter") == document["select"]["filter"]


def test_what_the_file_says_wins_over_the_default(load, document):
    document["align"]["epochs"] = 7
    document["align"]["top_layers"] = None
    config = load(document)
    assert config.align.epochs == 7
    assert config.align.top_layers is None
    assert config.base.seed == document["base"]["seed"]


def test_a_section_that_is_not_needed_keeps_its_defaults(load, document):
    config = load({"base": {**document["base"], "seed": 5}}, sections=["base"])
    assert config.base.seed == 5
    assert config.align == Config().align


def test_a_number_in_exponent_notation_is_a_number(load, document):
    text = yaml.safe_dump(document).replace("learning_rate: 0.0005", "learning_rate: 5e-4")  # text to YAML 1.1
    assert "5e-4" in text
    assert load(text).align.learning_rate == 5e-4


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        Config().base.seed = 3  # type: ignore[misc]


def test_every_mistake_is_told_at_once(problems, document):
    document["algin"] = document.pop("align")
    del document["report"]
    del document["base"]["threads"]
    document["base"]["sed"] = 1
    document["base"]["device"] = "gpu"
    document["prepare"]["sizes"]["w3s"] = document["prepare"]["sizes"].pop("w2s")
    document["supervise"]["lora"]["rank"] = 0
    document["sample"]["splits"] = ["w2s", "train"]
    document["score"] = ["entropy"]
    assert problems(document).split("; ") == [
        "unknown section 'algin'",
        "did you mean 'align'?",
        "missing section 'align'",
        "missing section 'report'",
        "missing key base.threads (the default is 2)",
        "base.device: input should be 'cpu', 'cuda' or 'auto', got 'gpu'",
        "unknown key base.sed",
        "did you mean 'seed'?",
        "missing key prepare.sizes.w2s (the default is 320)",
        "unknown key prepare.sizes.w3s",
        "did you mean 'w2s'?",
        "supervise.lora.rank: input should be greater than or equal to 1, got 0",
        "sample.splits.1: input should be 'weak_train', 'w2s', 'gold_dev' or 'test', got 'train'",
        "score must be a section with keys, got ['entropy']",
    ]


@pytest.mark.parametrize(
    ("section", "key", "default"),
    [
        ("prepare", "source", "null"),
        ("prepare", "options", "{}"),
        ("prepare", "paraphrases", "null"),
        ("prompt", "options", "hidden"),
        ("prompt", "templates", "null"),
        ("sample", "mode", "choice"),
        ("align", "lora", "{alpha: 32.0, dropout: 0.0, rank: 16, variant: lora}"),
        ("prepare", "task", "world_facts"),
        ("sample", "splits", "[w2s, gold_dev]"),
        ("align", "learning_rate", "0.0005"),
        ("report", "confidence", "0.95"),
    ],
)
def test_missing_key_is_told_with_its_default_in_yaml(problems, document, section, key, default):
    del document[section][key]
    assert problems(document) == f"missing key {section}.{key} (the default is {default})"
    document[section][key] = yaml.safe_load(default)
    assert getattr(getattr(Config(**document), section), key) == getattr(getattr(Config(), section), key)


def test_missing_key_without_a_default_says_none(problems, document):
    del document["select"]["methods"]
    assert problems(document) == "missing key select.methods"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("base", "seed", -1),
        ("base", "seed", "many"),
        ("base", "threads", 0),
        ("prepare", "sizes", 5),
        ("prepare", "sizes", {"weak_train": 0, "w2s": 1, "gold_dev": 1, "test": 1}),
        ("prepare", "options", 5),
        ("prompt", "options", "shown"),
        ("prompt", "answer", "number"),
        ("prompt", "vary", "nothing"),
        ("prompt", "templates", []),
        ("prompt", "templates", "{question}"),
        ("supervise", "epochs", 0),
        ("supervise", "learning_rate", float("inf")),
        ("supervise", "top_layers", 0),
        ("supervise", "batch_size", 1.5),
        ("sample", "temperature", -0.1),
        ("sample", "temperature", float("nan")),
        ("sample", "splits", []),
        ("sample", "mode", "guess"),
        ("sample", "options", ["base_url"]),
        ("sample", "max_new_tokens", 0),
        ("score", "methods", []),
        ("score", "methods", "entropy"),
        ("score", "protocol", "papers"),
        ("score", "temperature", 0),
        ("select", "methods", []),
        ("align", "seeds", []),
        ("align", "seeds", [-1]),
        ("align", "lora", {"rank": 1, "alpha": 1, "dropout": 1, "variant": "lora"}),
        ("report", "bootstrap", 10),
        ("report", "confidence", 1),
    ],
)
def test_impossible_value_is_told_with_its_place_and_what_was_given(problems, document, section, key, value):
    document[section][key] = value
    message = problems(document)
    assert message.startswith(f"{section}.{key}")
    assert ", got " in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"answer": "letter"},
            "prompt.answer 'letter' needs prompt.options 'listed': a letter means nothing unlisted",
        ),
        (
            {"templates": ["{question}", "What?"]},
            "prompt.templates: 'What?' must hold {question} exactly once",
        ),
        (
            {"options": "listed", "templates": ["{question} {question}"]},
            "prompt.templates: '{question} {question}' must hold {question} and {options} exactly once",
        ),
        (
            {"templates": ["{question} "]},
            "prompt.templates: '{question} ' ends in a blank; answers bring theirs",
        ),
    ],
)
def test_settings_of_a_prompt_that_do_not_fit_together(problems, document, settings, message):
    document["prompt"] |= settings
    assert problems(document) == message


def test_templates_of_ones_own(load, document):
    document["prompt"] |= {"options": "listed", "templates": ["{question}\n{options}\nSo {x}:"]}
    assert load(document).prompt.templates == ["{question}\n{options}\nSo {x}:"]


def test_only_the_sections_needed_must_be_there(load, problems, document):
    del document["align"]
    assert load(document, sections=["base", "select"]).select.methods == document["select"]["methods"]
    assert problems(document, sections=["base", "align"]) == "missing section 'align'"


def test_a_section_that_is_not_needed_is_checked_all_the_same(problems, document):
    document["align"]["epoch"] = document["align"].pop("epochs")
    assert "unknown key align.epoch; did you mean 'epochs'?" in problems(document, sections=["base"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: [", "is not YAML"),
        ("\tbase: 1", "is not YAML"),
        ("- base\n- align\n", "holds list, not sections; expected: base, prepare"),
        ("just words", "holds str, not sections"),
        ("", "holds NoneType, not sections"),
        ("base:\n", "base must be a section with keys, got None"),
        ("!!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_what_is_no_params_file_is_told_in_one_line(problems, text, message):
    assert message in problems(text, sections=["base"])


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_config(tmp_path / "params.yaml")


def test_absent_file(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no such file: .*x\.yaml; run inside the project, or name one with --params"
    ):
        load_config(tmp_path / "x.yaml")


def test_a_folder_is_no_params_file(tmp_path):
    with pytest.raises(ConfigError):
        load_config(tmp_path)


def test_parameters_of_a_rule_are_a_copy(load, document):
    document["select"]["naive"] = None
    config = load(document)
    assert config.select.params("naive") == config.select.params("nobody") == {}
    config.select.params("filter")["quantile"] = 0.1
    assert config.select.params("filter")["quantile"] == document["select"]["filter"]["quantile"]


@pytest.mark.parametrize("value", [3, "half", ["quantile"]])
def test_parameters_of_a_rule_must_be_a_section(load, document, value):
    document["select"]["filter"] = value
    with pytest.raises(ConfigError, match=r"select\.filter"):
        load(document).select.params("filter")


def test_defaults_in_the_code_are_those_of_the_repositorys_params(document):
    """Two truths would differ one day: what a missing key is said to be, and what the demo runs with."""
    del document["select"]  # its methods are the demo's choice, their parameters the registry's
    said = {name: SECTIONS[name].model_validate(content).model_dump() for name, content in document.items()}
    assert said == Config().model_dump(include=set(document))
