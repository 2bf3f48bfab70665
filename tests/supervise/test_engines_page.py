"""What docs/engines.md shows is what the engines take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from fake_openai import asking, text_query

from labelrel.supervise import file_engine, openai_server, vllm_engine
from labelrel.supervise.engines import engines

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
OURS = {"openai": openai_server.openai, "file": file_engine.file, "vllm": vllm_engine.vllm}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_every_engine_has_a_section_and_a_source():
    for name in OURS:
        assert f"## `{name}`: " in PAGE
        assert engines.get(name).source


def test_the_settings_shown_are_settings():
    shown = [yaml.safe_load(block)["sample"] for block in blocks("yaml")]
    assert [sample["engine"] for sample in shown] == ["openai", "file", "vllm"]
    for sample in shown:
        engines.get(sample["engine"]).parse(sample["options"], "sample.options")
    for extra in re.findall(r"`extra: (\{.*?\})`", PAGE):
        engines.get("openai").parse(
            {"base_url": "http://a/v1", "model": "b", "extra": yaml.safe_load(extra)}, "sample.options"
        )


def test_the_engine_of_your_own_works(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(engines, "_entries", dict(engines._entries))  # forgotten afterwards
    (code,) = blocks("py")
    exec(compile(code, "engines.md", "exec"), {})
    engine = engines.get("always_first").open(asking(tmp_path), {})
    assert [reply.answer for reply in engine.ask([text_query("q")])] == ["0"]
