"""Tiny models, a tokenizer and a toy task, all made in code: nothing is downloaded, nothing takes a second.

torch and transformers are imported inside the fixtures, so tests of lighter rooms never load them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pytest

from labelrel.schema import ITEMS, check_items
from labelrel.tasks import Prompting, Reading, Task, Wording

VOCAB = 300
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # far from 0, so that log-probabilities differ by nats and a wrong one shows
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
FAMILIES = {
    "llama": ("LlamaConfig", {}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "mistral": ("MistralConfig", {}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "query_pre_attn_scalar": 8}),
}


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """Return a maker of frozen random models, equal for equal arguments and never the same object."""
    import torch
    import transformers

    made: dict[str, Any] = {}

    def make(family: str = "llama", **changes: Any) -> Any:
        name = f"{family} {sorted(changes.items())}"
        if name not in made:
            config_class, extra = FAMILIES[family]
            config = getattr(transformers, config_class)(**{**SHAPE, **extra, **changes})
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            made[name] = model.requires_grad_(False).eval()
        return copy.deepcopy(made[name])

    return make


@pytest.fixture(params=list(FAMILIES))
def family_model(request: pytest.FixtureRequest, make_model: Callable[..., Any]) -> Any:
    """One tiny model per supported family."""
    return make_model(request.param)


@pytest.fixture
def tiny_model(make_model: Callable[..., Any]) -> Any:
    """A Llama with 4 layers; a fresh copy, so a test may change it."""
    return make_model()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    """One token per byte and a padding token: no merges, no special tokens added."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab["<pad>"] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


@pytest.fixture
def tiny_loaded(tiny_model: Any, tiny_tokenizer: Any) -> Any:
    """What `load_model` would return for the tiny model."""
    from labelrel.models.load import LoadedModel

    return LoadedModel(tiny_model, tiny_tokenizer, "tiny", "tiny-fingerprint")


@pytest.fixture(scope="session")
def tiny_prompts() -> list[Any]:
    """Prompts of different lengths with 1 to 3 branches of different lengths; the last two are single-branch."""
    import torch

    from labelrel.models.packing import Prompt

    generator = torch.Generator().manual_seed(1)

    def ids(number: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, VOCAB, (number,), generator=generator).tolist())

    return [
        Prompt(ids(7), (ids(3), ids(1), ids(5))),
        Prompt(ids(1), (ids(4), ids(2))),
        Prompt(ids(12), (ids(2),)),
        Prompt(ids(3), (ids(1),)),
    ]


@pytest.fixture(scope="session")
def naive_logprobs() -> Callable[[Any, Sequence[int], Sequence[int]], Any]:
    """Return the plain way: log-probabilities of a branch, prompt and branch alone in one ordinary forward."""
    import torch

    def score(model: Any, prefix: Sequence[int], branch: Sequence[int]) -> Any:
        logits = model(input_ids=torch.tensor([[*prefix, *branch]])).logits[0]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        return torch.stack([logprobs[len(prefix) + i - 1, token] for i, token in enumerate(branch)])

    return score


SUBJECTS = ("fig", "kiwi", "plum", "lime", "rust", "jade", "sky", "moss", "rose", "sea", "leaf", "ruby")
COLOURS = ("red", "green", "blue")


def _wordings(item: Any) -> list[Wording]:
    options = None if item["choices"] is None else tuple(f" {choice}" for choice in item["choices"])
    prompts = [f"Colour of {item['meta']['subject']}:", f"{item['meta']['subject']} is", f"{item['question']}"]
    return [Wording(prompt, options) for prompt in prompts]


def _parse(item: Any, completion: str) -> Reading:
    text = completion.strip()
    if not text:
        return Reading(None, "empty")
    names = [choice for choice in item["choices"] or COLOURS if choice.startswith(text)]
    if len(names) != 1:
        return Reading(None, "names several options" if names else "names no option")
    return Reading(names[0] if item["choices"] is None else str(item["choices"].index(names[0])))


@pytest.fixture(scope="session")
def tiny_task() -> Task:
    """Colours of things, three options of different lengths, three wordings; in no registry."""
    return Task(
        name="toy",
        kind="choice",
        summary="colours of things",
        source="made up",
        load=lambda source, sizes, seed: pl.DataFrame(schema=ITEMS),
        wordings=_wordings,
        parse=_parse,
    )


@pytest.fixture(scope="session")
def tiny_prompting(tiny_task: Task) -> Prompting:
    """The toy task worded as it words itself."""
    return Prompting(tiny_task)


@pytest.fixture(scope="session")
def tiny_items() -> pl.DataFrame:
    """12 choice items, 8 of them `w2s` and 4 `test`; the order of the options turns from item to item."""
    return check_items(
        pl.DataFrame(
            [
                {
                    "item_id": f"i{number:02d}",
                    "task": "toy",
                    "split": "w2s" if number < 8 else "test",
                    "question": f"What colour is {subject}?",
                    "choices": [COLOURS[(number + k) % 3] for k in range(3)],
                    "gold_label": str(int("021012100221"[number])),
                    "meta": {"subject": subject},
                }
                for number, subject in enumerate(SUBJECTS)
            ]
        )
    )
