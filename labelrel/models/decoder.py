"""A causal language model in two parts: a frozen trunk and the layers on top that may learn.

Both parts are views that share every weight with the model they were taken from, so an adapter
put on the model is an adapter on the top part, and saving the model saves what was trained.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import DynamicCache

from labelrel.errors import ConfigError
from labelrel.models.packing import Packed, Prompt

_LOGITS_AT_ONCE = 1 << 26
"""Logits held at a time while options are scored: 256 MiB, whatever the vocabulary."""


class HiddenSource(Protocol):
    """Where the input of the top layers comes from (the trunk cache, in practice)."""

    def hidden(self, prompts: Sequence[Prompt], length: int) -> torch.Tensor:
        """Return (B, length, H) trunk outputs in packed order, zero where padded."""
        ...


def view_layers(decoder: Any, start: int, stop: int, *, final_norm: bool) -> Any:
    """Return a decoder that runs layers `start` to `stop` of another, sharing its weights."""
    view = copy.copy(decoder)
    view._modules = dict(decoder._modules)
    view.layers = nn.ModuleList(list(decoder.layers)[start:stop])
    view.config = copy.deepcopy(decoder.config)
    view.config.num_hidden_layers = stop - start
    if getattr(view.config, "layer_types", None):
        view.config.layer_types = decoder.config.layer_types[start:stop]
    if not final_norm:
        view.norm = nn.Identity()
    return view


class Decoder:
    """Runs a model, whole or from cached trunk outputs.

    Args:
        model: a causal language model of transformers, plain or wrapped by peft.
        top_layers: run only the last K layers, on what `source` supplies; None runs all layers
            from token ids.
        source: supplies trunk outputs; needed with `top_layers`.

    Raises:
        ConfigError: more top layers than the model has, a model without a plain layer list, or one
            that does more to its embeddings or logits than this class knows.
    """

    def __init__(self, model: Any, *, top_layers: int | None = None, source: HiddenSource | None = None) -> None:
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        check_plain(base.config)
        self.model = model
        self.lm_head = base.get_output_embeddings()
        self.device = self.lm_head.weight.device
        self._dtype = self.lm_head.weight.dtype
        self._source = source
        self.cached = source is not None
        decoder = base.get_decoder()
        if top_layers is None:
            self._body = decoder
        else:
            num_layers = num_decoder_layers(base)
            check_top_layers(top_layers, num_layers)
            self._body = view_layers(decoder, num_layers - top_layers, num_layers, final_norm=True)
        if (top_layers is None) != (source is None):
            raise ValueError("top_layers and source belong together")

    def past(self, input_ids: torch.Tensor, owner: torch.Tensor) -> Any:
        """Return keys and values of all layers for the rows that go on from shared tokens.

        Args:
            input_ids: (S, R) the shared tokens, padded on the right.
            owner: (B,) which of the S each row goes on from.
        """
        cache = DynamicCache()  # without the model's own windows: a mask says who sees whom
        self._body(input_ids=input_ids, past_key_values=cache, use_cache=True)
        cache.batch_select_indices(owner)
        return cache

    def hidden(self, prompts: Sequence[Prompt], packed: Packed, past: Any = None) -> torch.Tensor:
        """Return the final hidden states, (B, L, H), after the last norm."""
        extra = _attention(packed, self._body.config)
        if past is not None:
            output: torch.Tensor = self._body(
                input_ids=packed.input_ids, past_key_values=past, use_cache=True, **extra
            ).last_hidden_state
            return output
        if self._source is None:
            extra["input_ids"] = packed.input_ids
        else:
            states = self._source.hidden(prompts, packed.input_ids.shape[1])
            extra["inputs_embeds"] = states.to(self.device, self._dtype)
        output = self._body(**extra, use_cache=False).last_hidden_state
        return output

    def token_logprobs(self, prompts: Sequence[Prompt], packed: Packed, past: Any = None) -> torch.Tensor:
        """Return (N,) log-probabilities of the batch's branch tokens.

        The vocabulary is reached only from positions that predict a branch token.

        Args:
            prompts: what the batch was packed from, for the trunk cache.
            packed: the batch.
            past: what `past` returned, where the batch goes on from shared tokens.
        """
        states = self.hidden(prompts, packed, past).flatten(0, 1)[packed.source]
        if packed.shared is None:
            return -nn.functional.cross_entropy(self.lm_head(states).float(), packed.target, reduction="none")
        wanted = torch.zeros(len(packed.target), dtype=torch.float32, device=self.device)
        step = max(1, _LOGITS_AT_ONCE // self.lm_head.out_features)
        for start in range(0, len(states), step):
            logprobs = torch.log_softmax(self.lm_head(states[start : start + step]).float(), dim=-1)
            here = (packed.shared >= start) & (packed.shared < start + step)
            wanted[here] = logprobs[packed.shared[here] - start, packed.target[here]]
        return wanted


class Trunk:
    """The frozen lower layers of a model, up to but not including its top K layers."""

    def __init__(self, model: Any, top_layers: int) -> None:
        num_layers = num_decoder_layers(model)
        check_top_layers(top_layers, num_layers)
        self.device = next(model.parameters()).device
        self._body = view_layers(model.get_decoder(), 0, num_layers - top_layers, final_norm=False)

    @torch.inference_mode()
    def run(self, packed: Packed) -> torch.Tensor:
        """Return (B, L, H) hidden states at the entrance of the top layers."""
        extra = _attention(packed, self._body.config)
        output: torch.Tensor = self._body(input_ids=packed.input_ids, **extra, use_cache=False).last_hidden_state
        return output


def _attention(packed: Packed, config: Any) -> dict[str, Any]:
    """Return mask and positions for a batch that needs more than plain causal attention.

    Raises:
        ConfigError: a prompt longer than the model's attention window, which the mask would replace.
    """
    if packed.attention_mask is None:
        return {}
    window = getattr(config, "sliding_window", None)
    longest = int(packed.position_ids.max()) + 1
    if window is not None and longest > window and getattr(config, "use_sliding_window", True):
        raise ConfigError(
            f"a prompt with an option has {longest} tokens, more than the model's attention "
            f"window of {window}; shorten the prompts or use a model without a window."
        )
    return {"attention_mask": packed.attention_mask, "position_ids": packed.position_ids}


def check_plain(config: Any) -> None:
    """Raise unless logits are `lm_head(hidden)` and the first layer reads the plain embeddings.

    Raises:
        ConfigError: the model scales or caps them, which would silently give wrong probabilities.
    """
    for name in ("logits_scaling", "logit_scale", "final_logit_softcapping", "embedding_multiplier"):
        value = getattr(config, name, None)
        if value not in (None, 1, 1.0):
            raise ConfigError(
                f"models of type '{config.model_type}' are not supported: their config sets {name}={value}."
            )


def num_decoder_layers(model: Any) -> int:
    """Return the number of decoder layers of a plain transformers model.

    Raises:
        ConfigError: the model keeps its layers in no list called `layers` with a final `norm`.
    """
    decoder = model.get_decoder()
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList) or not hasattr(decoder, "norm"):
        raise ConfigError(
            f"{type(model).__name__} has no plain layer list to cut; set top_layers to null to train all layers."
        )
    return len(decoder.layers)


def check_top_layers(top_layers: int, num_layers: int) -> None:
    """Raise unless 1 <= top_layers <= num_layers."""
    if not 1 <= top_layers <= num_layers:
        raise ConfigError(f"top_layers must lie in 1..{num_layers} for this model, got {top_layers}.")
