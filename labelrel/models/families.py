"""What a cut through a decoder of transformers needs to know of it, found out instead of listed.

Families name their parts differently (`layers` and `norm` in Llama, `h` and `ln_f` in GPT-2) and do
different things between the embeddings and the first layer (GPT-2 adds positions there). Parts are told
by what they are, and for a family that the tests do not cover a few tokens are run through the cut model
and through the whole one: what does not give the same is not cut.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

TESTED = frozenset(
    {"gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "olmo", "olmo2", "phi", "phi3", "qwen2", "qwen3"}
)
"""Model types whose cut and whose packed rows the tests compare with plain forwards."""

_SAME = {torch.float32: 1e-3, torch.float64: 1e-3}
_SAME_IN_HALF = 0.1
"""Relative distances below which hidden states count as the same: what rounding does stays below, another
position or a scale applied twice does not."""


@dataclass(frozen=True)
class Layout:
    """The parts of a decoder.

    Attributes:
        layers: name of the list of its layers.
        norm: name of the norm after the last.
        added: embeddings that are added before the first layer, of positions, say.
        entrance: dropouts and norms that stand before the first layer.
    """

    layers: str
    norm: str
    added: tuple[str, ...]
    entrance: tuple[str, ...]


def find_layout(decoder: Any) -> Layout | None:
    """Return the parts of a decoder, or None where it has no plain list of layers or no last norm."""
    count = getattr(decoder.config, "num_hidden_layers", None)
    children = dict(decoder.named_children())
    lists = [name for name, m in children.items() if isinstance(m, nn.ModuleList) and len(m) == count]
    norms = [name for name, m in children.items() if "norm" in type(m).__name__.lower()]
    if len(lists) != 1 or not norms:
        return None
    tokens = decoder.get_input_embeddings()
    return Layout(
        layers=lists[0],
        norm=norms[-1],
        added=tuple(name for name, m in children.items() if isinstance(m, nn.Embedding) and m is not tokens),
        entrance=tuple([*norms[:-1], *(name for name, m in children.items() if isinstance(m, nn.Dropout))]),
    )


def linear_layers(decoder: Any) -> dict[str, bool]:
    """Return the names of the linear modules of a decoder's layers, and which keep their weights transposed."""
    layout = find_layout(decoder)
    inside = getattr(decoder, layout.layers) if layout else decoder
    return {
        name.rsplit(".", 1)[-1]: isinstance(module, Conv1D)
        for name, module in inside.named_modules()
        if isinstance(module, (nn.Linear, Conv1D))
    }


class _Nothing(nn.Module):
    """Stands for an embedding that has been added already."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.zeros(())  # of no dimension, so that it fits any device


def view_layers(decoder: Any, start: int, stop: int, *, from_tokens: bool, final_norm: bool) -> Any:
    """Return a decoder that runs layers `start` to `stop` of another, sharing its weights.

    Args:
        decoder: one that has a layout.
        start: number of the first layer.
        stop: number after the last.
        from_tokens: it starts with the embeddings; else hidden states are handed to it as `inputs_embeds`.
        final_norm: it ends with the norm after the last layer.
    """
    layout = find_layout(decoder)
    assert layout is not None
    view = copy.copy(decoder)
    view._modules = dict(decoder._modules)
    view._modules[layout.layers] = nn.ModuleList(list(getattr(decoder, layout.layers))[start:stop])
    view.config = copy.deepcopy(decoder.config)
    view.config.num_hidden_layers = stop - start
    if getattr(view.config, "layer_types", None):
        view.config.layer_types = decoder.config.layer_types[start:stop]
    if not from_tokens:
        view._modules.update({name: _Nothing() for name in layout.added})
        view._modules.update({name: nn.Identity() for name in layout.entrance})
    if not final_norm:
        view._modules[layout.norm] = nn.Identity()
    return view


def same_states(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Say whether two tensors of hidden states differ by no more than rounding."""
    distance = torch.linalg.vector_norm(one.float() - other.float())
    limit = _SAME.get(other.dtype, _SAME_IN_HALF)
    return bool(distance <= limit * torch.linalg.vector_norm(other.float()))


_found: WeakKeyDictionary[nn.Module, dict[str, str | None]] = WeakKeyDictionary()


def once(model: nn.Module, name: str, probe: Callable[[], str | None]) -> str | None:
    """Return what a probe of a model found, running it at the first call only and with dropout switched off.

    Args:
        model: the plain model.
        name: of the probe.
        probe: returns what is wrong, in a few words, or None; what it raises counts as wrong too.
    """
    found = _found.setdefault(model, {})
    if name not in found:
        training = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.no_grad():
                found[name] = probe()
        except (
            AttributeError,
            IndexError,
            KeyError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            found[name] = " ".join(str(error).split())[:100] or type(error).__name__
        finally:
            for module, was in training.items():
                module.training = was
    return found[name]
