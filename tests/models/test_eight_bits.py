"""8-bit weights: refused where they cannot be, and asked for in transformers' own words where they can."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from labelrel.align.world import World
from labelrel.config import Base
from labelrel.errors import ConfigError, InputError
from labelrel.models.load import load_model
from labelrel.models.reference import Reference
from labelrel.pipeline.common import load

pytestmark = pytest.mark.usefixtures("quiet_transformers")
CUDA = torch.device("cuda")


@pytest.fixture
def reference(tmp_path: Path, make_model: Callable[..., Any], tiny_tokenizer: Any) -> Reference:
    make_model().save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return Reference("folder", str(tmp_path))


def test_on_the_cpu_it_is_refused(reference: Reference) -> None:
    with pytest.raises(ConfigError, match=r"align\.load_in_8bit needs a CUDA device, and the model goes to 'cpu'"):
        load_model(reference, load_in_8bit=True)


def test_without_bitsandbytes_it_is_refused(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes; `pip install 'labelrel\[8bit\]'`, or set it to false"):
        load_model(reference, device=CUDA, load_in_8bit=True)


def test_sharded_it_is_refused() -> None:
    class Sharded(World):
        size, sharded = 2, True

    with pytest.raises(ConfigError, match=r"align\.load_in_8bit does not go with sharded weights"):
        load("smollm2-135m", Base(threads=1), load_in_8bit=True, world=Sharded())


def test_the_configuration_is_handed_on(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where weights would be read: reading them in 8 bits takes a card."""
    given: dict[str, Any] = {}

    def from_pretrained(folder: Path, **options: Any) -> Any:
        given.update(options)
        raise ValueError("no card")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "bitsandbytes")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(InputError, match="no card"):
        load_model(reference, device=CUDA, load_in_8bit=True)
    assert given["quantization_config"].load_in_8bit
    assert not given["quantization_config"].load_in_4bit
    assert given["device_map"] == {"": CUDA}
    assert given["dtype"] == torch.bfloat16


def test_without_it_nothing_is_handed_on(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    whole = AutoModelForCausalLM.from_pretrained

    def from_pretrained(folder: Path, **options: Any) -> Any:
        given.update(options)
        return whole(folder, **options)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    load_model(reference)
    assert not {"quantization_config", "device_map"} & given.keys()
