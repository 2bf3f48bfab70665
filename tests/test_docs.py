"""What the documentation tells people to type works: every command and every Python block runs.

Blocks of one page run in order in one folder that holds a copy of docs/examples. Commands that need
models or a browser are checked for their spelling only.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from labelrel.cli import app
from labelrel.losses import losses
from labelrel.scoring import methods
from labelrel.selection import rules

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
# need models or a run
SPELLED_ONLY = {"ui", "supervise", "sample", "align", "fetch", "prepare", "select", "report", "evaluate", "merge"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(block: str) -> list[list[str]]:
    """Return the lines after a prompt, continued lines joined, comments left out."""
    joined = block.replace("\\\n", " ")
    lines = [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_labelrel(arguments: list[str]) -> None:
    if arguments[0] in SPELLED_ONLY:
        arguments = [arguments[0], "--help"]
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}).invoke(app, arguments)
    assert result.exit_code == 0, f"labelrel {shlex.join(arguments)}: {result.stderr or result.exception}"


def check_other(words: list[str]) -> None:
    if words[0] in {"torchrun", "accelerate"}:
        run_labelrel(words[words.index("labelrel") + 1 :])
    elif words[0] == "make":
        assert set(words[1:]) <= TARGETS, f"the Makefile has no {words[1:]}"
    elif words[0] == "dvc":
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for setting in (word for word in words if "=" in word):
            value = params
            for key in setting.partition("=")[0].split("."):
                assert key in value, f"params.yaml has no {setting}"
                value = value[key]
    else:
        assert words[0] in {"git", "pip", "cd"}, f"nobody checks `{shlex.join(words)}`"


@each_page
def test_what_a_page_says_to_type_works(page, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples")
    monkeypatch.chdir(tmp_path)
    for language, text in blocks(page):
        if language == "console":
            for words in commands(text):
                run_labelrel(words[1:]) if words[0] == "labelrel" else check_other(words)
        elif language == "python":
            exec(compile(text, f"{page.name}, a block", "exec"), {"__name__": "docs"})


def test_commands_are_found():
    found = [
        words for page in PAGES for language, text in blocks(page) if language == "console" for words in commands(text)
    ]
    assert len(found) > 20
    assert ["labelrel", "methods"] in [words[:2] for words in found]


@each_page
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_method_and_rule_has_its_paragraph():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "methods").glob("*.md"))
    assert set(re.findall(r"^### `(\w+)`", text, flags=re.MULTILINE)) == set(methods)
    page = (ROOT / "docs" / "selection.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE)) == set(rules)
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(\w+)`", page, flags=re.MULTILINE) == list(losses)


def test_the_example_is_what_its_script_writes(tmp_path):
    script = ROOT / "docs" / "examples" / "make.py"
    shutil.copy(script, tmp_path)
    namespace = {"__name__": "__main__", "__file__": str(tmp_path / "make.py")}
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), namespace)
    for name in ("votes.csv", "gold.csv"):
        assert (tmp_path / name).read_bytes() == (script.parent / name).read_bytes()


def test_this_file_would_notice():
    with pytest.raises(AssertionError, match="no such file"):
        run_labelrel(["score", "nowhere.csv"])
    with pytest.raises(AssertionError, match=r"params\.yaml has no"):
        check_other(["dvc", "exp", "run", "-S", "select.filter.quantle=0.3"])
