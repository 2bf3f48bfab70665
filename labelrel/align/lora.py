"""Low-rank adapters: the only place that knows peft."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from labelrel.align.fused import fuse
from labelrel.config import Lora
from labelrel.errors import ConfigError, InputError
from labelrel.files import write_json
from labelrel.models.decoder import check_top_layers, num_decoder_layers
from labelrel.models.families import find_layout, linear_layers
from labelrel.models.sharding import whole_layers

with warnings.catch_warnings():
    # peft reads an attribute that transformers will drop in v6; nothing of ours depends on it
    warnings.simplefilter("ignore", FutureWarning)
    from peft import LoraConfig, PeftModel, get_peft_model


def add_adapter(model: Any, lora: Lora, *, top_layers: int | None, seed: int) -> Any:
    """Put a fresh adapter on every linear layer of the top K decoder layers.

    Args:
        model: a frozen causal language model; it is changed in place.
        lora: rank, alpha, dropout, variant.
        top_layers: K; None means all layers.
        seed: of the initial weights: equal seeds give equal adapters, whatever the labels.

    Returns:
        The model wrapped by peft.

    Raises:
        ConfigError: more top layers than the model has, or no plain layer list to count them in.
    """
    if hasattr(model, "peft_config"):
        raise ValueError("the model has an adapter already; remove it first")
    layers = None
    if top_layers is not None:
        num_layers = num_decoder_layers(model)
        check_top_layers(top_layers, num_layers)
        layers = list(range(num_layers - top_layers, num_layers))
    decoder = model.get_decoder()
    layout = find_layout(decoder)
    linear = linear_layers(decoder)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=sorted(linear),
        fan_in_fan_out=all(linear.values()),
        use_dora=lora.variant == "dora",
        use_rslora=lora.variant == "rslora",
        layers_to_transform=layers,
        layers_pattern=layout.layers if layout and layers else None,
    )
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with whole_layers(model):  # DoRA measures the weights
            wrapped = get_peft_model(model, config)
    fuse(wrapped)
    return wrapped


def remove_adapter(model: Any) -> Any:
    """Return the plain model underneath, without the adapter."""
    return model.unload()


def save_adapter(model: Any, folder: Path, *, base: str) -> None:
    """Write the adapter in PEFT's format, the same bytes for the same weights.

    Args:
        model: a model wrapped by peft.
        folder: existing folder to write into.
        base: the model reference to name as base; never a path of this machine.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template of a model card
    config_file = folder / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    # peft writes a set, whose order changes with the hash seed and with it the file's digest
    config["target_modules"] = sorted(config["target_modules"])
    write_json(config_file, config)
    (folder / "adapter_model.safetensors").chmod(0o644)  # written private; it is an ordinary result


def check_adapter(folder: Path) -> None:
    """Raise unless a folder holds an adapter.

    Raises:
        InputError: one of its files is missing.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():  # peft would ask a hub for it
            raise InputError(f"{folder} holds no adapter ({name} is missing); run the stage that trains it.")


def load_adapter(model: Any, folder: Path) -> Any:
    """Put a saved adapter on a frozen model.

    Raises:
        InputError: no adapter in the folder, or one that does not fit the model.
    """
    check_adapter(folder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = PeftModel.from_pretrained(model, folder)
    except (ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the adapter in {folder} is damaged or does not fit the model: {reason}") from error
    wrapped.eval()
    return wrapped


def adapter_parameters(model: Any) -> list[torch.nn.Parameter]:
    """Return the trainable parameters.

    Raises:
        ConfigError: there are none.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError("the model has no trainable parameters; is the adapter loaded for inference only?")
    return parameters
