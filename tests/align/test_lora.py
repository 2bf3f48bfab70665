"""Adapters: seeded, on the top layers only, portable, and gone without a trace when removed."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from labelrel.align.lora import adapter_parameters, add_adapter, load_adapter, remove_adapter, save_adapter
from labelrel.config import Lora
from labelrel.errors import ConfigError, InputError

LORA = Lora(rank=4, alpha=8.0)
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def filled(model: Any) -> Any:
    """Give the adapter values that change the logits: fresh ones add nothing."""
    generator = torch.Generator().manual_seed(3)
    for parameter in adapter_parameters(model):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


def test_equal_seeds_give_equal_adapters_whatever_was_drawn_before(make_model: Callable[..., Any]) -> None:
    first = weights(add_adapter(make_model(), LORA, top_layers=2, seed=5))
    torch.rand(100)
    second = weights(add_adapter(make_model(), LORA, top_layers=2, seed=5))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_seeds_give_other_adapters(make_model: Callable[..., Any]) -> None:
    first = weights(add_adapter(make_model(), LORA, top_layers=2, seed=5))
    other = weights(add_adapter(make_model(), LORA, top_layers=2, seed=6))
    assert all(not torch.equal(first[name], other[name]) for name in first if "lora_A" in name)


def test_fresh_adapter_changes_nothing(tiny_model: Any) -> None:
    before = logits(tiny_model)
    assert torch.equal(logits(add_adapter(tiny_model, LORA, top_layers=2, seed=0)), before)


@pytest.mark.parametrize(("top_layers", "layers"), [(1, {3}), (2, {2, 3}), (4, {0, 1, 2, 3}), (None, {0, 1, 2, 3})])
def test_adapter_sits_on_all_linear_layers_of_the_top_layers_only(
    family_model: Any, top_layers: int | None, layers: set[int]
) -> None:
    names = weights(add_adapter(family_model, LORA, top_layers=top_layers, seed=0))
    found = {(int(name.split(".layers.")[1].split(".")[0]), name.rsplit(".", 4)[1]) for name in names}
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert found == {(layer, name) for layer in layers for name in linear}
    assert {min(p.shape) for p in names.values()} == {4}


@pytest.mark.parametrize(
    ("variant", "scale", "magnitudes"), [("lora", 8 / 4, 0), ("dora", 8 / 4, 14), ("rslora", 8 / math.sqrt(4), 0)]
)
def test_variant_is_that_asked_for(
    tiny_model: Any, tmp_path: Path, variant: str, scale: float, magnitudes: int
) -> None:
    """rsLoRA scales by alpha / sqrt(rank), the others by alpha / rank; DoRA learns a magnitude per layer."""
    lora = Lora.model_validate({"rank": 4, "alpha": 8.0, "variant": variant})
    model = add_adapter(tiny_model, lora, top_layers=2, seed=0)
    layer = model.get_base_model().model.layers[3].mlp.up_proj
    assert layer.scaling["default"] == pytest.approx(scale)
    assert sum("magnitude" in name for name in weights(model)) == magnitudes
    config = json.loads((save(model, tmp_path / "adapter") / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"]) == (variant == "dora", variant == "rslora")


def test_nothing_but_the_adapter_is_trainable(tiny_model: Any) -> None:
    model = add_adapter(tiny_model, LORA, top_layers=2, seed=0)
    assert all("lora_" in name for name in weights(model))
    assert len(adapter_parameters(model)) == len(weights(model)) == 2 * 7 * 2


@pytest.mark.parametrize("top_layers", [0, 5])
def test_top_layers_must_be_layers_of_the_model(tiny_model: Any, top_layers: int) -> None:
    with pytest.raises(ConfigError, match=r"top_layers must lie in 1\.\.4"):
        add_adapter(tiny_model, LORA, top_layers=top_layers, seed=0)


def test_removed_adapter_leaves_the_logits_it_found(tiny_model: Any) -> None:
    before = logits(tiny_model)
    names = [name for name, _ in tiny_model.named_parameters()]
    model = filled(add_adapter(tiny_model, LORA, top_layers=2, seed=0))
    assert (logits(model) - before).abs().max() > 0.1
    plain = remove_adapter(model)
    assert torch.equal(logits(plain), before)
    assert [name for name, _ in plain.named_parameters()] == names


def test_removed_adapter_makes_room_for_the_next(make_model: Callable[..., Any]) -> None:
    used = remove_adapter(filled(add_adapter(make_model(), LORA, top_layers=2, seed=0)))
    again = weights(add_adapter(used, LORA, top_layers=3, seed=9))
    fresh = weights(add_adapter(make_model(), LORA, top_layers=3, seed=9))
    assert again.keys() == fresh.keys()
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)


def save(model: Any, folder: Path, base: str = "smollm2-135m") -> Path:
    folder.mkdir()
    save_adapter(model, folder, base=base)
    return folder


def test_saved_adapter_loads_with_the_same_logits(make_model: Callable[..., Any], tmp_path: Path) -> None:
    model = filled(add_adapter(make_model(), LORA, top_layers=2, seed=0))
    loaded = load_adapter(make_model(), save(model, tmp_path / "adapter"))
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training


def test_saved_adapter_is_plain_peft(make_model: Callable[..., Any], tmp_path: Path) -> None:
    """Someone without labelrel loads it with two lines."""
    from peft import PeftModel

    model = filled(add_adapter(make_model(), LORA, top_layers=2, seed=0))
    folder = save(model, tmp_path / "adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads an attribute that transformers will drop
        loaded = PeftModel.from_pretrained(make_model(), folder)
    assert torch.equal(logits(loaded.eval()), logits(model))


def test_loaded_adapter_is_for_inference_only(make_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = save(add_adapter(make_model(), LORA, top_layers=2, seed=0), tmp_path / "adapter")
    with pytest.raises(ConfigError, match="no trainable parameters; is the adapter loaded for inference only"):
        adapter_parameters(load_adapter(make_model(), folder))


class Backwards(set[str]):
    """A set that iterates the other way round, as an ordinary one does under another hash seed."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(super().__iter__(), reverse=True))


def test_equal_adapters_are_saved_as_equal_bytes(make_model: Callable[..., Any], tmp_path: Path) -> None:
    folders = []
    for name in ("one", "two"):
        model = filled(add_adapter(make_model(), LORA, top_layers=2, seed=0))
        if name == "two":
            config = model.peft_config["default"]
            config.target_modules = Backwards(config.target_modules)
        folders.append(save(model, tmp_path / name))
    files = [sorted(file.name for file in folder.iterdir()) for folder in folders]
    assert files[0] == files[1] == ["adapter_config.json", "adapter_model.safetensors"]
    for name in files[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_saved_adapter_names_its_base_and_no_path(make_model: Callable[..., Any], tmp_path: Path) -> None:
    """The base came from a folder of this machine; the adapter must not tell."""
    home = tmp_path / "home-of-someone"
    make_model().save_pretrained(home)
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(home).requires_grad_(False)
    folder = save(add_adapter(base, LORA, top_layers=2, seed=0), tmp_path / "adapter", base="smollm2-135m@layers=10")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "smollm2-135m@layers=10"
    assert config["target_modules"] == sorted(config["target_modules"])
    for file in folder.iterdir():
        assert b"home-of-someone" not in file.read_bytes()


def test_folder_without_an_adapter_says_what_is_missing(tiny_model: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no adapter \(adapter_config\.json is missing\)"):
        load_adapter(tiny_model, tmp_path)


def test_adapter_of_another_model_does_not_fit(make_model: Callable[..., Any], tmp_path: Path) -> None:
    folder = save(add_adapter(make_model(), LORA, top_layers=2, seed=0), tmp_path / "adapter")
    with pytest.raises(InputError, match="does not fit the model") as caught:
        load_adapter(make_model(hidden_size=64), folder)
    assert "\n" not in str(caught.value)
