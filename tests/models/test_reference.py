from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labelrel.errors import ConfigError, InputError, UnknownNameError
from labelrel.models.reference import Reference, parse_reference


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    """A working folder with one model folder, one with an @ in its path, and one GGUF file."""
    monkeypatch.chdir(tmp_path)
    for folder in ("mine", "user@host/model", "odd@layers=3"):
        Path(folder).mkdir(parents=True)
    Path("w.gguf").touch()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smollm2-135m", Reference("alias", "smollm2-135m")),
        ("smollm2-135m@layers=10", Reference("alias", "smollm2-135m", 10)),
        ("hub:ORG/Name_1.5-x", Reference("hub", "ORG/Name_1.5-x")),
        ("hub:ORG/NAME@layers=1", Reference("hub", "ORG/NAME", 1)),
        ("mine", Reference("folder", "mine")),
        ("./mine@layers=2", Reference("folder", "./mine", 2)),
        ("user@host/model", Reference("folder", "user@host/model")),
        ("user@host/model@layers=4", Reference("folder", "user@host/model", 4)),
        ("odd@layers=3", Reference("folder", "odd@layers=3")),
        ("gguf:w.gguf", Reference("gguf", "w.gguf")),
        ("gguf:w.gguf@layers=12", Reference("gguf", "w.gguf", 12)),
    ],
)
def test_reference_parses_and_prints_back(text, expected):
    assert parse_reference(text) == expected
    assert str(expected) == text


def test_blanks_around_a_reference_do_not_matter():
    assert parse_reference(" smollm2-135m \n") == Reference("alias", "smollm2-135m")


@pytest.mark.parametrize(
    ("text", "exception", "match"),
    [
        (
            "smollm2-135",
            UnknownNameError,
            r"unknown model 'smollm2-135'; did you mean 'smollm2-135m'\? Bundled: smollm2-135m",
        ),
        ("xyz", UnknownNameError, r"unknown model 'xyz'\. Bundled: .*hub:ORG/NAME"),
        ("./none", InputError, r"no such model folder: \./none\.$"),
        ("ORG/NAME", InputError, r"no such model folder: ORG/NAME; a model on the hub is written hub:ORG/NAME"),
        ("user@host/none", InputError, r"no such model folder: user@host/none\.$"),
        ("gguf:none.gguf", InputError, r"no such file: none\.gguf"),
        ("gguf:", InputError, r"no such file: \(empty\)"),
        ("hub:", ConfigError, r"'hub:' is no model on the hub; write hub:ORG/NAME"),
        ("hub:justname", ConfigError, r"write hub:ORG/NAME"),
        ("hub:../..", ConfigError, r"write hub:ORG/NAME"),
        ("hub:a/b/c", ConfigError, r"write hub:ORG/NAME"),
        ("", ConfigError, r"names no model"),
        ("@layers=3", ConfigError, r"names no model"),
        ("mine@layers=0", ConfigError, r"at least 1, got '0'"),
        ("mine@layers=-1", ConfigError, r"at least 1, got '-1'"),
        ("mine@layers=ten", ConfigError, r"at least 1, got 'ten'"),
        ("mine@layers=", ConfigError, r"at least 1, got ''"),
        ("mine@layer=3", ConfigError, r"unknown option '@layer=3'.*did you mean 'layers'"),
        ("mine@main", ConfigError, r"unknown option '@main' in the model reference 'mine@main'"),
    ],
)
def test_bad_reference_is_one_line(text, exception, match):
    with pytest.raises(exception, match=match) as caught:
        parse_reference(text)
    assert "\n" not in str(caught.value)


def test_parsing_and_the_way_to_a_cached_model_need_no_heavy_import():
    code = (
        "import sys, labelrel.models.reference, labelrel.models.fetch;"
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0
