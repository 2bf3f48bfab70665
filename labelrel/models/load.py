"""Model reference → a frozen causal language model in memory, with its tokenizer."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from labelrel.errors import ConfigError, InputError, some
from labelrel.files import digest, digest_of, read_json
from labelrel.models.fetch import fetch
from labelrel.models.reference import Reference


@dataclass
class LoadedModel:
    """A causal language model whose weights will not be trained.

    Attributes:
        model: the network, in evaluation mode, no gradients on any weight.
        tokenizer: its tokenizer.
        reference: what the user called it.
        fingerprint: hex digest of weights, number of layers and precision; equal fingerprints
            give equal hidden states.
    """

    model: Any
    tokenizer: Any
    reference: str
    fingerprint: str

    @property
    def num_layers(self) -> int:
        """Return the number of decoder layers."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def num_parameters(self) -> int:
        """Return the number of frozen weights."""
        return sum(p.numel() for p in self.model.parameters() if not p.requires_grad)


def pick_device(name: str) -> torch.device:
    """Return the torch device for `cpu`, `cuda` or `auto`.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("base.device is 'cuda' but torch sees no CUDA device; use 'cpu' or 'auto'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def load_model(
    reference: Reference,
    *,
    device: torch.device | None = None,
    load_in_8bit: bool = False,
    stay_on_cpu: bool = False,
) -> LoadedModel:
    """Load a model from the local cache, bringing it there first where it is missing.

    CPU models run in float32 (half precision is emulated there and slower), CUDA models in
    bfloat16. Code that comes with a model is never run.

    Args:
        reference: which model; `layers` keeps the first K decoder layers.
        device: where it goes; None means the CPU.
        load_in_8bit: hold the weights of its linear layers as 8-bit integers (LLM.int8(), Dettmers et al.
            2022, arXiv 2208.07339); CUDA and bitsandbytes only.
        stay_on_cpu: leave the weights on the CPU, in the precision of `device`, for `shard_layers` to spread.

    Raises:
        ConfigError: more layers asked for than the model has, or 8 bits where there are none.
        FetchError: the model cannot be brought here.
        InputError: a folder that holds no loadable model.
    """
    device = device or torch.device("cpu")
    placed = {"quantization_config": _eight_bits(device), "device_map": {"": device}} if load_in_8bit else {}
    folder = fetch(reference)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # a cut model reports its missing layers at length
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if reference.layers is not None:
            config = _cut(config, reference)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
            trust_remote_code=False,
            use_safetensors=True,
            **placed,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the model {reference} in {folder} cannot be loaded: {reason}") from error
    if info["missing_keys"]:
        missing = some(sorted(info["missing_keys"]))
        raise InputError(f"the model {reference} in {folder} lacks weights ({missing}); fetch or save it again.")
    model.requires_grad_(False)
    model.eval()
    if not (load_in_8bit or stay_on_cpu):
        model.to(device)
    fingerprint = _fingerprint(folder, config, device)
    if load_in_8bit:
        fingerprint = digest_of([fingerprint, "8 bits"])
    return LoadedModel(model, tokenizer, str(reference), fingerprint)


def _eight_bits(device: torch.device) -> BitsAndBytesConfig:
    if device.type != "cuda":
        raise ConfigError(
            f"align.load_in_8bit needs a CUDA device, and the model goes to '{device.type}'; set it to false."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError("align.load_in_8bit needs bitsandbytes; `pip install 'labelrel[8bit]'`, or set it to false.")
    return BitsAndBytesConfig(load_in_8bit=True)


def _cut(config: Any, reference: Reference) -> Any:
    layers, have = reference.layers, config.num_hidden_layers
    if layers is None or layers > have:
        raise ConfigError(f"{reference} asks for {layers} layers; the model has {have}.")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def _fingerprint(folder: Path, config: Any, device: torch.device) -> str:
    """Digest the weights, from the record `fetch` left beside them where there is one."""
    record = folder / "labelrel.json"
    weights: Any = read_json(record).get("weights_sha256") if record.is_file() else None
    if weights is None:
        weights = [digest(file) for file in sorted(folder.glob("*.safetensors"))]
    settings = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    return digest_of([weights, settings, device.type, torch.__version__])


def set_threads(threads: int) -> None:
    """Fix the number of CPU threads: float sums, and so results, depend on it."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(threads)
