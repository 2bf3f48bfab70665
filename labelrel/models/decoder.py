"""A causal language model in two parts: a frozen trunk and the layers on top that may learn.

Both parts are views that share every weight with the model they were taken from, so an adapter
put on the model is an adapter on the top part, and saving the model saves what was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import DynamicCache

from labelrel.errors import ConfigError
from labelrel.models.families import TESTED, find_layout, once, same_states, view_layers
from labelrel.models.packing import Packed, Prompt, batches, pack

_LOGITS_AT_ONCE = 1 << 26
"""Logits held at a time while options are scored: 256 MiB, whatever the vocabulary."""


class HiddenSource(Protocol):
    """Where the input of the top layers comes from (the trunk cache, in practice)."""

    def hidden(self, prompts: Sequence[Prompt], length: int) -> torch.Tensor:
        """Return (B, length, H) trunk outputs in packed order, zero where padded."""
        ...


class Decoder:
    """Runs a model, whole or from cached trunk outputs.

    A model that does not heed a mask of its own (one with ALiBi, say) gets a row for each branch.

    Args:
        model: a causal language model of transformers, plain or wrapped by peft.
        top_layers: run only the last K layers, on what `source` supplies; None runs all layers
            from token ids.
        source: supplies trunk outputs; needed with `top_layers`.

    Raises:
        ConfigError: more top layers than the model has, a model that cannot be cut (see `trunk_problem`), or
            one that does more to its logits than this class knows.
    """

    def __init__(self, model: Any, *, top_layers: int | None = None, source: HiddenSource | None = None) -> None:
        base = plain_model(model)
        check_plain(base.config)
        if _head_problem(base):
            raise ConfigError(f"models of type '{base.config.model_type}' are not supported: {_head_problem(base)}.")
        self.model = model
        self.lm_head = base.get_output_embeddings()
        self.device = self.lm_head.weight.device
        self._dtype = self.lm_head.weight.dtype
        self._source = source
        self.cached = source is not None
        self._apart = source is None and _packing_problem(base) is not None
        decoder = base.get_decoder()
        if top_layers is None:
            self._body = decoder
        else:
            num_layers = num_decoder_layers(base)
            check_top_layers(top_layers, num_layers)
            _check_cut(base)
            self._body = view_layers(decoder, num_layers - top_layers, num_layers, from_tokens=False, final_norm=True)
        if (top_layers is None) != (source is None):
            raise ValueError("top_layers and source belong together")

    def past(self, input_ids: torch.Tensor, owner: torch.Tensor) -> Any:
        """Return keys and values of all layers for the rows that go on from shared tokens.

        Args:
            input_ids: (S, R) the shared tokens, padded on the right.
            owner: (B,) which of the S each row goes on from.
        """
        if self._apart:
            return None
        cache = DynamicCache()  # without the model's own windows: a mask says who sees whom
        self._body(input_ids=input_ids, past_key_values=cache, use_cache=True)
        cache.batch_select_indices(owner)
        return cache

    def hidden(self, prompts: Sequence[Prompt], packed: Packed, past: Any = None) -> torch.Tensor:
        """Return the final hidden states, (B, L, H), after the last norm."""
        extra = _attention(packed, self._body)
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
        if self._apart:
            return self._apart_logprobs(prompts, packed.input_ids.numel())
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

    def _apart_logprobs(self, prompts: Sequence[Prompt], max_tokens: int) -> torch.Tensor:
        """Return what `token_logprobs` does, from a row of its own for each branch."""
        rows = [Prompt(prompt.prefix, (branch,)) for prompt in prompts for branch in prompt.branches]
        found: dict[int, torch.Tensor] = {}
        for group in batches([len(row) for row in rows], max_tokens):
            packed = pack([rows[index] for index in group]).to(self.device)
            states = self._body(input_ids=packed.input_ids, use_cache=False).last_hidden_state
            logits = self.lm_head(states.flatten(0, 1)[packed.source]).float()
            values = -nn.functional.cross_entropy(logits, packed.target, reduction="none")
            parts = torch.split(values, [len(rows[index].branches[0]) for index in group])
            found.update(zip(group, parts, strict=True))
        return torch.cat([found[index] for index in range(len(rows))])


class Trunk:
    """The frozen lower layers of a model, up to but not including its top K layers."""

    def __init__(self, model: Any, top_layers: int) -> None:
        num_layers = num_decoder_layers(model)
        check_top_layers(top_layers, num_layers)
        _check_cut(model)
        self.device = next(model.parameters()).device
        self._body = view_layers(model.get_decoder(), 0, num_layers - top_layers, from_tokens=True, final_norm=False)
        self.hidden_size: int = self._body.config.hidden_size

    @torch.inference_mode()
    def run(self, packed: Packed) -> torch.Tensor:
        """Return (B, L, H) hidden states at the entrance of the top layers."""
        extra = _attention(packed, self._body)
        output: torch.Tensor = self._body(input_ids=packed.input_ids, **extra, use_cache=False).last_hidden_state
        return output


def _attention(packed: Packed, body: Any) -> dict[str, Any]:
    """Return mask and positions for a batch that needs more than plain causal attention.

    Raises:
        ConfigError: a prompt longer than the model's attention window, which the mask would replace.
    """
    if packed.attention_mask is None:
        return {}
    config, mask = body.config, packed.attention_mask
    window = getattr(config, "sliding_window", None)
    longest = int(packed.position_ids.max()) + 1
    if window is not None and longest > window and getattr(config, "use_sliding_window", True):
        raise ConfigError(
            f"a prompt with an option has {longest} tokens, more than the model's attention "
            f"window of {window}; shorten the prompts or use a model without a window."
        )
    if config._attn_implementation == "eager":  # which adds the mask
        lowest = torch.finfo(body.dtype).min
        mask = torch.zeros(mask.shape, dtype=body.dtype, device=mask.device).masked_fill(~mask, lowest)
    return {"attention_mask": mask, "position_ids": packed.position_ids}


def plain_model(model: Any) -> Any:
    """Return the model of transformers itself, whether or not peft wraps it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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
        ConfigError: the model keeps its layers in no plain list with a norm at its end.
    """
    decoder = model.get_decoder()
    layout = find_layout(decoder)
    if layout is None:
        raise ConfigError(f"{_no_list(model)} to cut; set top_layers to null to train all layers.")
    return len(getattr(decoder, layout.layers))


def trunk_problem(model: Any) -> str | None:
    """Say in a few words why a model's lower layers cannot be cached; None where they can.

    For families that the tests do not cover it runs a few tokens through the model, once.
    """
    base = plain_model(model)
    decoder = base.get_decoder()
    if find_layout(decoder) is None:
        return _no_list(base)
    if _packing_problem(base):
        return f"{type(base).__name__} cannot take several options in one row"

    def cut() -> str | None:
        packed = pack(_probes(decoder))
        packed = packed.to(base.get_output_embeddings().weight.device)
        extra = _attention(packed, decoder)
        whole = decoder(input_ids=packed.input_ids, **extra, use_cache=False).last_hidden_state
        count = num_decoder_layers(base)
        for middle in {0, count // 2}:
            lower = view_layers(decoder, 0, middle, from_tokens=True, final_norm=False)
            upper = view_layers(decoder, middle, count, from_tokens=False, final_norm=True)
            states = lower(input_ids=packed.input_ids, **extra, use_cache=False).last_hidden_state
            if not same_states(upper(inputs_embeds=states, **extra, use_cache=False).last_hidden_state, whole):
                return "other results"
        return None

    if decoder.config.model_type not in TESTED and once(base, "cut", cut):
        return f"the layers of {type(base).__name__} read more than the states that the layer below hands on"
    return None


def _no_list(model: Any) -> str:
    return f"{type(model).__name__} has no plain layer list"


def _check_cut(model: Any) -> None:
    problem = trunk_problem(model)
    if problem:
        raise ConfigError(f"the trunk cache cannot be used: {problem}; set top_layers to null to train all layers.")


def _probes(decoder: Any) -> list[Prompt]:
    size = decoder.config.vocab_size
    one, two, three, four, five = (number * size // 7 for number in range(1, 6))
    return [Prompt((one, two, three), ((four, five), (two, five, one)))]


def _packing_problem(model: Any) -> str | None:
    """Say whether branches in one row disturb each other, as they do where the model ignores mask or positions."""
    decoder = model.get_decoder()

    def probe() -> str | None:
        (prompt,) = _probes(decoder)
        packed = pack([prompt]).to(model.get_output_embeddings().weight.device)
        extra = _attention(packed, decoder)
        row = decoder(input_ids=packed.input_ids, **extra, use_cache=False).last_hidden_state[0]
        at = len(prompt.prefix)
        for branch in prompt.branches:
            ids = torch.tensor([[*prompt.prefix, *branch]], device=packed.input_ids.device)
            alone = decoder(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt.prefix) :]
            if not same_states(row[at : at + len(branch)], alone):
                return "other results"
            at += len(branch)
        return None

    return None if decoder.config.model_type in TESTED else once(model, "packing", probe)


def _head_problem(model: Any) -> str | None:
    """Say whether the logits are something else than `lm_head(hidden)`."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()

    def probe() -> str | None:
        ids = torch.tensor([_probes(decoder)[0].prefix], device=head.weight.device)
        logits = model(input_ids=ids, use_cache=False).logits
        plain = head(decoder(input_ids=ids, use_cache=False).last_hidden_state)
        return None if same_states(logits, plain) else "their logits are not the output layer's alone"

    return None if decoder.config.model_type in TESTED else once(model, "head", probe)


def check_top_layers(top_layers: int, num_layers: int) -> None:
    """Raise unless 1 <= top_layers <= num_layers."""
    if not 1 <= top_layers <= num_layers:
        raise ConfigError(f"top_layers must lie in 1..{num_layers} for this model, got {top_layers}.")
