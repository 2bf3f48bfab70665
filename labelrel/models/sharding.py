"""Frozen decoder layers that several processes hold a part of each, and gather while they run (FSDP).

Zhao et al. 2023, PyTorch FSDP (arXiv 2304.11277); here `torch.distributed.fsdp.fully_shard`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from labelrel.errors import ConfigError
from labelrel.models.decoder import plain_model, trunk_problem
from labelrel.models.families import find_layout


def shard_layers(model: Any, device: torch.device) -> None:
    """Spread the decoder layers of a model over all processes, and move it to their devices.

    Each layer is whole only while it runs. Embeddings, last norm and output layer stay whole, and so does an
    adapter that is added afterwards: to the optimiser and to files it is an ordinary one. A layer gathers for
    itself, without the model around it, because parts of the model are run (the trunk, the layers on top).

    Args:
        model: a frozen causal language model without an adapter, on the CPU or on `device`; the same in all
            processes. It is changed in place.
        device: of this process.

    Raises:
        ConfigError: the model has no plain list of layers, or takes a varying number of passes for a batch.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    problem = trunk_problem(model)
    if problem:
        raise ConfigError(f"the model cannot be sharded: {problem}; leave --use_fsdp (ACCELERATE_USE_FSDP) out.")
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        # the whole weights must exist once outside of inference mode, or no backward pass could use them later
        layer.unshard()
        layer.reshard()
    parts = {parameter for layer in _layers(model) for parameter in layer.parameters()}
    for tensor in [p for p in model.parameters() if p not in parts] + list(model.buffers()):
        tensor.data = tensor.data.to(device)


@contextmanager
def whole_layers(model: Any) -> Iterator[None]:
    """Hold all layers of a sharded model whole for a moment; all processes must come here. Else do nothing."""
    from torch.distributed.fsdp import FSDPModule

    sharded = [module for module in plain_model(model).modules() if isinstance(module, FSDPModule)]
    for layer in sharded:
        layer.unshard()
    yield
    for layer in sharded:
        layer.reshard()


def _layers(model: Any) -> list[Any]:
    decoder = model.get_decoder()
    layout = find_layout(decoder)
    assert layout is not None
    return list(getattr(decoder, layout.layers))
