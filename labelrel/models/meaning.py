"""Models that say whether two answers mean the same: by cosine of embeddings, or by mutual entailment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from labelrel.errors import ConfigError, InputError, some
from labelrel.models.fetch import fetch
from labelrel.models.reference import parse_reference

Floats = npt.NDArray[np.float32]

_BATCH = 64  # texts or pairs per forward
_MOST_TOKENS = 512  # of one text or pair; more is cut off


class EmbeddingMeaning:
    """Two answers mean the same where the cosine of their embeddings is at least a threshold.

    An embedding is the mean of the last hidden states over the tokens of the answer, scaled to
    length 1, as sentence-transformers' mean pooling. The question is not embedded: it would make
    all answers to it alike.

    Args:
        model: model reference; a folder or `hub:ORG/NAME` with an encoder.
        threshold: least cosine, in [-1, 1].
        device: where the model goes; None means the CPU.

    Raises:
        ConfigError: a threshold that is no cosine, or a reference with an option.
        FetchError: the model cannot be brought here.
        InputError: a folder that holds no such model.
    """

    def __init__(self, model: str, *, threshold: float = 0.85, device: torch.device | None = None) -> None:
        if not -1 <= threshold <= 1:
            raise ConfigError(f"the threshold of an embedding model must lie in [-1, 1], got {threshold!r}.")
        self.threshold = threshold
        self._model, self._tokenizer = _load(AutoModel, model, device)
        self._known: dict[str, int] = {}
        self._vectors: list[Floats] = []

    def __call__(self, pairs: Sequence[tuple[str, str, str | None]]) -> list[bool]:
        """Return, for every (answer, answer, question), whether the answers mean the same."""
        first, second = self.embed([a for a, _, _ in pairs]), self.embed([b for _, b, _ in pairs])
        # float32 leaves the cosine of a text with itself just below 1
        return [bool(cosine >= self.threshold - 1e-6) for cosine in (first * second).sum(axis=1)]

    def embed(self, texts: Sequence[str]) -> Floats:
        """Return embeddings of length 1, (N, D); a text is run through the model once in the object's life."""
        new = sorted(set(texts) - self._known.keys(), key=lambda text: (len(text), text))
        for batch in _batches(new):
            encoded = _encode(self._model, self._tokenizer, batch)
            if encoded["input_ids"].shape[1]:
                with torch.inference_mode():
                    hidden = self._model(**encoded).last_hidden_state.float()
                mask = encoded["attention_mask"].unsqueeze(-1).to(hidden.dtype)
                mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            else:  # empty texts, and a tokenizer that puts nothing around them
                mean = torch.zeros(len(batch), int(self._model.config.hidden_size))
            self._vectors += list(torch.nn.functional.normalize(mean, dim=1).cpu().numpy())
            self._known |= {text: len(self._known) + place for place, text in enumerate(batch)}
        if not texts:
            return np.zeros((0, int(self._model.config.hidden_size)), dtype=np.float32)
        return np.stack([self._vectors[self._known[text]] for text in texts])


class EntailmentMeaning:
    """Two answers mean the same where each entails the other, read after the question where there is one.

    Args:
        model: model reference; a folder or `hub:ORG/NAME` with a classifier for natural language
            inference, one of whose labels is called "entailment".
        device: where the model goes; None means the CPU.

    Raises:
        ConfigError: a reference with an option.
        FetchError: the model cannot be brought here.
        InputError: a folder that holds no such model, or one without a label "entailment".

    Source: Kuhn, Gal & Farquhar 2023 (arXiv 2302.09664), section 3.2 (bidirectional entailment).
    """

    def __init__(self, model: str, *, device: torch.device | None = None) -> None:
        self._model, self._tokenizer = _load(AutoModelForSequenceClassification, model, device)
        labels = {int(number): str(label) for number, label in self._model.config.id2label.items()}
        entailment = [number for number, label in labels.items() if label.lower().startswith("entail")]
        if len(entailment) != 1:
            raise InputError(
                f"the model {model} has no label 'entailment' (its labels: {some(labels.values())}); "
                "name a model trained for natural language inference, with named labels."
            )
        self._entailment = entailment[0]

    def __call__(self, pairs: Sequence[tuple[str, str, str | None]]) -> list[bool]:
        """Return, for every (answer, answer, question), whether the answers mean the same."""
        said = [(_after(question, a), _after(question, b)) for a, b, question in pairs]
        asked = {direction for a, b in said for direction in ((a, b), (b, a))}
        entailed: dict[tuple[str, str], bool] = {}
        for batch in _batches(sorted(asked, key=lambda pair: (len(pair[0]) + len(pair[1]), pair))):
            encoded = _encode(self._model, self._tokenizer, [a for a, _ in batch], [b for _, b in batch])
            with torch.inference_mode():
                label = self._model(**encoded).logits.argmax(dim=1).tolist()
            entailed |= {pair: number == self._entailment for pair, number in zip(batch, label, strict=True)}
        return [entailed[a, b] and entailed[b, a] for a, b in said]


def _after(question: str | None, answer: str) -> str:
    return answer if question is None else f"{question} {answer}"


def _batches(sequence: list[Any]) -> list[list[Any]]:
    return [sequence[start : start + _BATCH] for start in range(0, len(sequence), _BATCH)]


def _encode(model: Any, tokenizer: Any, texts: list[str], second: list[str] | None = None) -> Any:
    limit = min(
        tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", _MOST_TOKENS), _MOST_TOKENS
    )
    encoded = tokenizer(texts, second, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    return encoded.to(model.device)


def _load(kind: Any, model: str, device: torch.device | None) -> tuple[Any, Any]:
    """Load a frozen model in float32 with its tokenizer; code that comes with it is never run."""
    reference = parse_reference(model)
    if reference.layers is not None:
        raise ConfigError(f"a model of meaning is used whole; write '{model.rpartition('@')[0]}', without @layers.")
    folder = fetch(reference)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        network, info = kind.from_pretrained(
            folder, output_loading_info=True, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"the model {model} in {folder} cannot be loaded: {reason}") from error
    # mean pooling does not read BERT's pooler, which many embedding models leave out
    missing = sorted(key for key in info["missing_keys"] if not (kind is AutoModel and key.startswith("pooler.")))
    if missing:
        raise InputError(f"the model {model} in {folder} lacks weights ({some(missing)}); it is of another kind.")
    if tokenizer.pad_token is None:
        raise InputError(f"the tokenizer of {model} has no padding token, so texts cannot be read together.")
    network.requires_grad_(False)
    return network.eval().to(device or torch.device("cpu")), tokenizer
