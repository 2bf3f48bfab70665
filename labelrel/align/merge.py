"""An adapter that was trained before: put it on a model and see that all of it fits, or merge it for good."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from labelrel.align.card import write_card
from labelrel.align.lora import load_adapter
from labelrel.errors import InputError
from labelrel.files import replacing_folder
from labelrel.models.load import LoadedModel


def fit_adapter(model: Any, folder: Path) -> Any:
    """Put a saved adapter on a frozen model, every tensor of it in its place.

    peft leaves out without an error what a model has no layer for, and leaves at zero what a file does not have.

    Args:
        model: a plain causal language model; it is changed in place.
        folder: of the adapter.

    Returns:
        The model wrapped by peft, in evaluation mode.

    Raises:
        InputError: no adapter in the folder, or one that does not fit the model, as a whole or in part.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found missing adapter keys")  # told below
        wrapped = load_adapter(model, folder)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    needed, allowed = (set(get_peft_model_state_dict(wrapped, save_embedding_layers=own)) for own in (False, True))
    spare, missing = sorted(saved - allowed), sorted(needed - saved)
    if spare or missing:
        (first, *_) = (name.removeprefix("base_model.model.") for name in spare or missing)
        told = f"has no place for {first}" if spare else f"needs {first}, which the adapter lacks"
        raise InputError(
            f"the adapter in {folder} is of another model: this one {told} "
            f"({len(spare or missing)} such tensors); name the model it was trained on with --model."
        )
    return wrapped


def merge_adapter(
    loaded: LoadedModel, adapter: Path, out: Path, record: dict[str, Any], *, predictions: Any = None
) -> None:
    """Add an adapter to the weights of its base and write a plain model: weights, tokenizer, model card.

    Args:
        loaded: the base; it is changed in place.
        adapter: folder of the adapter.
        out: the folder to write, whole or not at all.
        record: what `run.json` says, for the card.
        predictions: of the run, for the card.

    Raises:
        InputError: an adapter that does not fit, has values that are not finite, or no room on the disk.
    """
    wrapped = fit_adapter(loaded.model, adapter)
    try:
        merged = wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise InputError(f"the adapter in {adapter} cannot be merged: {' '.join(str(error).split())[:200]}") from error
    try:
        with replacing_folder(out) as temporary:
            merged.save_pretrained(temporary)
            loaded.tokenizer.save_pretrained(temporary)
            write_card(temporary, record, predictions, merged=True)
            for file in temporary.iterdir():
                file.chmod(0o644)  # weights are written private; they are an ordinary result
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise InputError(f"the merged model cannot be written to {out}: {reason}; nothing is left there.") from error
