"""GGUF → a safetensors folder that can be trained."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from labelrel.errors import InputError


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the model and tokenizer of a GGUF file as a float32 safetensors folder.

    A GGUF loaded as it is can be neither saved nor trained, so its weights are unpacked once.

    Args:
        gguf: the file.
        folder: where `config.json`, `model.safetensors` and the tokenizer go.

    Raises:
        InputError: not a GGUF file, or one of a network that transformers cannot read from GGUF.
    """
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError(f"{gguf} is no GGUF file: it does not begin with 'GGUF'.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    # a progress bar of the GGUF reader has no switch
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                trust_remote_code=False,
            )
        except (ValueError, KeyError, IndexError, OSError, NotImplementedError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{gguf.name} cannot be converted: {reason}; pass a safetensors folder instead."
            ) from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
