"""Text that goes on from prompts: many at once, each drawn as if it were alone.

A draw uses noise that is a hash of the seed, the prompt's name and the step, so what a prompt
gets depends neither on the batch it is in nor on what was drawn before.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from labelrel.errors import InputError, some
from labelrel.models.memory import in_batches

_WORTH_SHARING = 8  # tokens: below, the forward pass of its own costs more than it saves


@dataclass(frozen=True)
class Generated:
    """What a model wrote after a prompt.

    Attributes:
        text: as decoded, up to where it was stopped, leading blanks and all.
        logprob: natural log-probability of the text's tokens under the model at temperature 1;
            0 for an empty text. That the text ends there is not part of it.
        tokens: ids of the text's tokens. The last may hold the beginning of the stop as well.
    """

    text: str
    logprob: float
    tokens: tuple[int, ...]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    names: Sequence[str],
    stop: str | None = "\n",
    budget: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Generated]:
    """Let a model write on from every prompt.

    Nothing but the arguments decides how: sampling flags, penalties and lengths that come with a
    model are ignored, only its end-of-sequence tokens count.

    Args:
        model: a causal language model of transformers in evaluation mode, plain or wrapped by peft.
        tokenizer: its tokenizer.
        prompts: the texts to go on from.
        max_new_tokens: most tokens written after a prompt.
        temperature: 0 takes the most probable token at each step, otherwise tokens are drawn from
            softmax(logits / temperature).
        seed: of all draws.
        names: one name per prompt; a draw is fixed by seed, name and step. Equal names draw alike.
        stop: a text ends before the first `stop` that follows its first non-blank character; the
            default ends it with its first line. None lets it go on to the end of the sequence.
        budget: most padded tokens of a batch, what is generated included (see `token_budget`).
        progress: called with (prompts done, prompts in all).

    Returns:
        One result per prompt, in the order given.

    Raises:
        InputError: an empty prompt, or one that leaves no room for `max_new_tokens` in the model's context.
    """
    if len(names) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts with {len(names)} names")
    if not prompts:
        return []
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids: list[list[int]] = tokenizer(list(prompts))["input_ids"]
    lengths = [len(row) for row in ids]
    _check(lengths, names, max_new_tokens, base.config)
    ending = _Ending(base, tokenizer, stop)
    results: list[Generated | None] = [None] * len(prompts)
    done = 0

    def run(group: list[int]) -> None:
        nonlocal done
        noise = _Noise(seed, [names[i] for i in group], temperature, base.device)
        written = _write(base, [ids[i] for i in group], max_new_tokens, noise, ending)
        for index, (tokens, logprobs) in zip(group, written, strict=True):
            results[index] = ending.cut(tokens, logprobs)
        done += len(group)
        if progress:
            progress(done, len(prompts))

    in_batches([length + max_new_tokens for length in lengths], budget, run)
    return [result for result in results if result is not None]


def _check(lengths: Sequence[int], names: Sequence[str], max_new_tokens: int, config: Any) -> None:
    empty = [name for name, length in zip(names, lengths, strict=True) if not length]
    if empty:
        raise InputError(
            f"{len(empty)} of {len(names)} prompts are empty ({some(empty)}); there is nothing to go on from."
        )
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context is None:
        return
    room = context - max_new_tokens
    long = [name for name, length in zip(names, lengths, strict=True) if length > room]
    if long:
        raise InputError(
            f"{len(long)} of {len(names)} prompts have more than {room} tokens ({some(long)}; the longest "
            f"{max(lengths)}): the model's context of {context} less {max_new_tokens} to generate; "
            "shorten the prompts or generate less."
        )


@torch.inference_mode()
def _write(
    model: Any, prompts: Sequence[list[int]], max_new_tokens: int, noise: _Noise, ending: _Ending
) -> list[tuple[list[int], list[float]]]:
    """Return (tokens, their log-probabilities) of every prompt; rows that are done leave the batch.

    A loop of our own, because in the one of transformers a row that is done is computed on until
    the slowest is. A step costs the same in both.
    """
    device = model.device
    cache = DynamicCache(config=model.config)
    shared = _shared_length(prompts, max_new_tokens, model.config.get_text_config())
    if shared:
        prefix = torch.tensor([prompts[0][:shared]], device=device)
        model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
    rests = [row[shared:] for row in prompts]
    length = max(len(rest) for rest in rests)
    padded = any(len(rest) < length for rest in rests)
    input_ids = torch.tensor([[0] * (length - len(rest)) + rest for rest in rests], device=device)
    seen = [[1] * shared + [0] * (length - len(rest)) + [1] * len(rest) for rest in rests]
    mask = torch.tensor(seen, device=device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, shared:]
    written: list[tuple[list[int], list[float]]] = [([], []) for _ in prompts]
    rows = list(range(len(prompts)))  # which prompt each row of the batch goes on from
    for step in range(max_new_tokens):
        output = model(
            input_ids=input_ids,
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits = output.logits[:, -1].float()
        picked = noise.pick(logits, rows, step)
        chosen = logits.gather(1, picked[:, None])[:, 0] - logits.logsumexp(dim=1)
        for row, token, logprob in zip(rows, picked.tolist(), chosen.tolist(), strict=True):
            written[row][0].append(token)
            written[row][1].append(logprob)
        keep = [at for at, row in enumerate(rows) if not ending.reached(written[row][0])]
        if not keep:
            break
        input_ids, positions = picked[:, None], positions[:, -1:] + 1
        if len(keep) < len(rows):
            kept = torch.tensor(keep, device=device)
            cache.batch_select_indices(kept)
            input_ids, positions, mask = input_ids[kept], positions[kept], mask[kept]
            rows = [rows[at] for at in keep]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return written


def _shared_length(prompts: Sequence[list[int]], max_new_tokens: int, config: Any) -> int:
    """Return how many first tokens all prompts share and may be run once for all; 0 where it is not worth it."""
    window = getattr(config, "sliding_window", None)
    # the padding lies between the shared tokens and the others, and a window counts it
    if len(prompts) == 1 or (window and max(len(row) for row in prompts) + max_new_tokens > window):
        return 0
    first, last = min(prompts), max(prompts)  # all others lie between them, so they share what these two do
    same = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = min(same, min(len(row) for row in prompts) - 1)  # the last token gives the first logits
    return shared if shared >= _WORTH_SHARING else 0


class _Ending:
    """When is a text done, and which of its tokens count.

    Args:
        model: a plain transformers model; its end-of-sequence tokens end a text.
        tokenizer: its tokenizer; so does its end-of-sequence token.
        stop: see `generate`.
    """

    def __init__(self, model: Any, tokenizer: Any, stop: str | None) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._eos: set[int] = set()
        for source in (model.generation_config, model.config, tokenizer):
            known = getattr(source, "eos_token_id", None)
            self._eos |= set(known if isinstance(known, (list, tuple)) else [known]) - {None}
        self._may_end = functools.cache(self._holds_end)

    def reached(self, tokens: list[int]) -> bool:
        """Return whether the last of these tokens ended the text."""
        if tokens[-1] in self._eos:
            return True
        return bool(self._stop) and self._may_end(tokens[-1]) and self._find(self._decode(tokens)) >= 0

    def cut(self, tokens: list[int], logprobs: list[float]) -> Generated:
        """Return the text before its ending."""
        if tokens and tokens[-1] in self._eos:
            tokens = tokens[:-1]
        text = self._decode(tokens)
        at = self._find(text)
        if at >= 0:
            text = text[:at]
            while tokens and self._decode(tokens[:-1]).startswith(text):
                tokens = tokens[:-1]
        return Generated(text, float(sum(logprobs[: len(tokens)])), tuple(tokens))

    def _holds_end(self, token: int) -> bool:
        """Return whether a token can complete the stop: it has its last character, or bytes of one."""
        text = self._decode([token, token])  # twice, for some tokenizers drop the blank that a text begins with
        return (self._stop or "")[-1:] in text or "\ufffd" in text

    def _find(self, text: str) -> int:
        start = len(text) - len(text.lstrip())
        return text.find(self._stop, start) if self._stop else -1

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class _Noise:
    """Picks tokens by the Gumbel-max trick: argmax(logits / T + noise) is a draw from softmax(logits / T).

    Args:
        seed: of all draws.
        names: of the rows.
        temperature: 0 takes the largest logit.
        device: where the logits are.

    Source: Gumbel 1954; Maddison, Tarlow & Minka 2014 (arXiv 1411.0030), section 2.
    """

    def __init__(self, seed: int, names: Sequence[str], temperature: float, device: torch.device) -> None:
        self._temperature = temperature
        self._seed = seed
        self._names = names
        self._device = device

    def pick(self, logits: torch.Tensor, rows: Sequence[int], step: int) -> torch.Tensor:
        """Return (B,) tokens picked from (B, V) logits of the given rows at a step."""
        if self._temperature == 0:
            return logits.argmax(dim=1)
        keys = torch.tensor([self._key(row, step) for row in rows], dtype=torch.int32, device=self._device)
        # row by row the CPU stays within its cache; a card takes all rows at once
        at_once = 1 if self._device.type == "cpu" else len(rows)
        picked = [
            (part / self._temperature + gumbel(key, logits.shape[1])).argmax(dim=1)
            for part, key in zip(torch.split(logits, at_once), torch.split(keys, at_once), strict=True)
        ]
        return torch.cat(picked)

    def _key(self, row: int, step: int) -> list[int]:
        text = "\x1f".join([str(self._seed), self._names[row], str(step)]).encode()
        digest = hashlib.sha256(text).digest()
        return [int.from_bytes(digest[at : at + 4], "little", signed=True) for at in (0, 4)]


def gumbel(keys: torch.Tensor, size: int) -> torch.Tensor:
    """Return (B, size) standard Gumbel noise that depends on (B, 2) int32 keys and the column alone."""
    column = torch.arange(size, dtype=torch.int32, device=keys.device)
    bits = _mix(_mix(column + keys[:, :1]) ^ keys[:, 1:])
    return _from_bits(bits)


def _from_bits(bits: torch.Tensor) -> torch.Tensor:
    """Return -log(-log(1 - u)) for u in (0, 1]: float32 is finest near 0, where the large values come from."""
    uniform = ((bits & 0x7FFFFFFF).float() + 0.5) * 2.0**-31
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _mix(x: torch.Tensor) -> torch.Tensor:
    """Scramble int32 numbers, one to one."""
    x ^= (x >> 16) & 0xFFFF
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x *= -0x7B935975
    x ^= (x >> 16) & 0xFFFF
    return x
