"""Text from many prompts at once is the text each would have got alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from labelrel.align.lora import add_adapter
from labelrel.config import Lora
from labelrel.errors import InputError
from labelrel.models.generate import Generated, _from_bits, generate, gumbel

PROMPTS = ["abc", "Q: what?\nA:", "x", "the longest of all the prompts\nA:", "x", "other"]
NAMES = ["a", "b", "c", "d", "e", "f"]


def write(model: Any, tokenizer: Any, prompts: list[str] = PROMPTS, **changes: Any) -> list[Generated]:
    settings = {"max_new_tokens": 12, "temperature": 0.0, "seed": 1, "names": NAMES, "stop": None, "budget": 10_000}
    return generate(model, tokenizer, prompts, **{**settings, **changes})


def alone(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int = 12) -> tuple[int, ...]:
    """Transformers' own greedy generate."""
    from transformers import GenerationConfig

    ids = tokenizer([prompt], return_tensors="pt")["input_ids"]
    config = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False)
    return tuple(model.generate(ids, generation_config=config)[0, ids.shape[1] :].tolist())


@pytest.fixture(params=["llama", "gemma3", "gemma3 with a window"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., Any]) -> Any:
    if "window" in request.param:
        kinds = ["sliding_attention", "full_attention"] * 2
        return make_model("gemma3", sliding_window=8, layer_types=kinds)
    return make_model(request.param)


# --- one batch or many ---------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_greedy_text_is_that_of_transformers_one_prompt_at_a_time(model: Any, tiny_tokenizer: Any, budget: int) -> None:
    results = write(model, tiny_tokenizer, budget=budget)
    assert [result.tokens for result in results] == [alone(model, tiny_tokenizer, prompt) for prompt in PROMPTS]
    assert len({result.tokens for result in results}) == 5  # "x" is there twice


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_results_are_equal_between_batch_sizes_and_orders(model: Any, tiny_tokenizer: Any, temperature: float) -> None:
    together = write(model, tiny_tokenizer, temperature=temperature)
    singly = write(model, tiny_tokenizer, temperature=temperature, budget=1)
    backwards = write(model, tiny_tokenizer, PROMPTS[::-1], temperature=temperature, names=NAMES[::-1])[::-1]
    for others in (singly, backwards):
        assert [(o.text, o.tokens) for o in others] == [(t.text, t.tokens) for t in together]
        assert [o.logprob for o in others] == pytest.approx([t.logprob for t in together], abs=1e-4)


def test_draw_depends_on_seed_and_name_alone(tiny_model: Any, tiny_tokenizer: Any) -> None:
    def drawn(prompts: list[str], names: list[str], seed: int = 1) -> list[str]:
        return [r.text for r in write(tiny_model, tiny_tokenizer, prompts, names=names, seed=seed, temperature=1.0)]

    first = drawn(["x"] * 3, ["a", "b", "a"])
    assert first[0] == first[2] != first[1]
    assert drawn(["x"], ["b"]) == [first[1]]
    assert drawn(["x"], ["b"], seed=2) != [first[1]]


def test_logprob_is_that_of_a_plain_forward_at_temperature_1(
    model: Any, tiny_tokenizer: Any, naive_logprobs: Any
) -> None:
    for prompt, result in zip(PROMPTS, write(model, tiny_tokenizer, temperature=0.7), strict=True):
        with torch.inference_mode():
            expected = float(naive_logprobs(model, tiny_tokenizer(prompt)["input_ids"], result.tokens).sum())
        assert len(result.tokens) == 12
        assert result.logprob == pytest.approx(expected, abs=1e-4)


def test_settings_that_come_with_a_model_do_not_leak_in(tiny_model: Any, tiny_tokenizer: Any) -> None:
    plain = write(tiny_model, tiny_tokenizer)
    settings = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 5.0, "max_length": 3, "min_length": 40}
    for name, value in settings.items():
        setattr(tiny_model.generation_config, name, value)
    assert write(tiny_model, tiny_tokenizer) == plain


def test_adapter_of_peft_takes_part(tiny_model: Any, tiny_tokenizer: Any) -> None:
    plain = write(tiny_model, tiny_tokenizer)
    wrapped = add_adapter(tiny_model, Lora(rank=3, alpha=6.0), top_layers=4, seed=0).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    adapted = write(wrapped, tiny_tokenizer)
    merged = wrapped.merge_and_unload()
    assert [r.tokens for r in adapted] == [alone(merged, tiny_tokenizer, prompt) for prompt in PROMPTS]
    assert adapted != plain


def test_progress_counts_prompts_to_the_end(tiny_model: Any, tiny_tokenizer: Any) -> None:
    told: list[tuple[int, int]] = []
    write(tiny_model, tiny_tokenizer, budget=30, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]


def test_no_prompts_generate_nothing(tiny_model: Any, tiny_tokenizer: Any) -> None:
    assert write(tiny_model, tiny_tokenizer, [], names=[]) == []


def test_batch_that_is_too_large_is_halved_to_the_same_results(
    tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = write(tiny_model, tiny_tokenizer, temperature=1.0)
    forward = type(tiny_model).forward

    def small(self: Any, input_ids: torch.Tensor, past_key_values: Any, **rest: Any) -> Any:
        if len(input_ids) > 2 and past_key_values.get_seq_length() > 35:  # in mid-text, not at once
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, input_ids=input_ids, past_key_values=past_key_values, **rest)

    monkeypatch.setattr(type(tiny_model), "forward", small)
    results = write(tiny_model, tiny_tokenizer, temperature=1.0)
    assert [r.tokens for r in results] == [e.tokens for e in expected]
    assert "out of memory with 6 sequences" in capsys.readouterr().err


# --- a beginning that all prompts share ----------------------------------------------------------

SHOTS = "Q: one?\nA: yes\n\nQ: "
ASKED = [SHOTS + rest for rest in ("two?\nA:", "a longer question?\nA:", "x", "two?\nB:", "two?\nA:")]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_shared_beginning_changes_no_result(model: Any, tiny_tokenizer: Any, temperature: float) -> None:
    together = write(model, tiny_tokenizer, ASKED, names=NAMES[:5], temperature=temperature)
    singly = write(model, tiny_tokenizer, ASKED, names=NAMES[:5], temperature=temperature, budget=1)
    assert [t.tokens for t in together] == [s.tokens for s in singly]
    assert [t.logprob for t in together] == pytest.approx([s.logprob for s in singly], abs=1e-4)
    if temperature == 0:
        assert [t.tokens for t in together] == [alone(model, tiny_tokenizer, prompt) for prompt in ASKED]


@pytest.mark.parametrize(
    ("prompts", "passes"),
    [
        (ASKED, [(1, len(SHOTS)), (5, 21)]),
        ([SHOTS + "x"] * 3, [(1, len(SHOTS)), (3, 1)]),
        ([SHOTS, SHOTS + "x"], [(1, len(SHOTS) - 1), (2, 2)]),
        ([SHOTS + "x"], [(1, len(SHOTS) + 1)]),
        (["1234567a", "1234567b"], [(2, 8)]),  # too little to be worth a pass
    ],
)
def test_shared_beginning_is_run_once(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[str], passes: list[tuple[int, int]]
) -> None:
    shapes = []
    embed = tiny_model.get_input_embeddings()
    embed.register_forward_hook(lambda module, args, output: shapes.append(tuple(args[0].shape)))
    write(tiny_model, tiny_tokenizer, prompts, names=NAMES[: len(prompts)], max_new_tokens=1)
    assert shapes == passes


# --- errors --------------------------------------------------------------------------------------


def test_prompts_without_room_in_the_context_are_named(tiny_model: Any, tiny_tokenizer: Any) -> None:
    prompts = ["y" * 245, "x", "y" * 244, "z" * 256]  # the context has 256
    message = (
        r"^2 of 4 prompts have more than 244 tokens \(a, d; the longest 256\): the model's context of 256 less "
        r"12 to generate; shorten the prompts or generate less\.$"
    )
    with pytest.raises(InputError, match=message):
        write(tiny_model, tiny_tokenizer, prompts, names=NAMES[:4])


def test_longest_prompt_with_room_fills_the_context(tiny_model: Any, tiny_tokenizer: Any) -> None:
    (result,) = write(tiny_model, tiny_tokenizer, ["y" * 244], names=["a"])
    assert result.tokens == alone(tiny_model, tiny_tokenizer, "y" * 244)


def test_empty_prompt_is_named(tiny_model: Any, tiny_tokenizer: Any) -> None:
    with pytest.raises(InputError, match=r"1 of 2 prompts are empty \(b\)"):
        write(tiny_model, tiny_tokenizer, ["x", ""], names=["a", "b"])


# --- where a text ends ---------------------------------------------------------------------------

EOS, END = "<eos>", "<end>"


class Script:
    """A tokenizer of given pieces and a model that after piece i says piece i + 1 and is certain by 3 nats."""

    def __init__(self, *texts: list[str]) -> None:
        self.pieces = [piece for text in texts for piece in ["", *text]]
        self.starts = [sum(len(t) + 1 for t in texts[:number]) for number in range(len(texts))]
        ends = [number for number, piece in enumerate(self.pieces) if piece == EOS]
        from transformers import LlamaConfig

        self.config = LlamaConfig(eos_token_id=None, bos_token_id=None, pad_token_id=None, num_hidden_layers=1)
        self.generation_config = SimpleNamespace(eos_token_id=ends)
        self.eos_token_id = next((number for number, piece in enumerate(self.pieces) if piece == END), None)
        self.device = torch.device("cpu")
        self.rows: list[int] = []

    def __call__(self, texts: list[str] | None = None, *, input_ids: Any = None, **rest: Any) -> Any:
        if texts is not None:
            return {"input_ids": [[int(text)] for text in texts]}
        self.rows.append(len(input_ids))
        following = (input_ids[:, -1] + 1) % len(self.pieces)
        return SimpleNamespace(logits=3.0 * torch.nn.functional.one_hot(following, len(self.pieces))[:, None].float())

    def decode(self, tokens: list[int], **settings: Any) -> str:
        assert settings == {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return "".join(self.pieces[token] for token in tokens if self.pieces[token] not in (EOS, END))

    def write(self, max_new_tokens: int = 8, stop: str | None = "\n", temperature: float = 0) -> list[Generated]:
        prompts = [str(start) for start in self.starts]
        return generate(
            self,
            self,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=0,
            names=prompts,
            stop=stop,
            budget=1000,
        )


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "num_tokens"),
    [
        ([" Paris", "\n", " more"], "\n", " Paris", 1),
        ([" Par", "is", ".\n", " more"], "\n", " Paris.", 3),
        ([" a", "\nb", " more"], "\n", " a", 1),  # the last token has nothing of the text
        (["\n", " ", "\n\n", " a", "\n"], "\n", "\n \n\n a", 4),  # blank lines before the first do not end it
        ([" \n b\n", "c"], "\n", " \n b", 1),
        ([" a", EOS, " b"], "\n", " a", 1),
        ([" a", END, " b"], "\n", " a", 1),  # the tokenizer's, where the model's differs
        ([EOS, " b"], "\n", "", 0),
        ([" a#", "#b", "c"], "##", " a", 1),
        ([" a", "#", "#", "c"], "##", " a", 1),
        ([" a", "\n", "b", EOS], None, " a\nb", 3),
        ([" a", "\n", "b", EOS], "", " a\nb", 3),
        (["\n"] * 9, "\n", "\n" * 8, 8),  # never a first line: the length ends it
    ],
)
def test_text_ends_at_stop_or_end_of_sequence(pieces: list[str], stop: str, text: str, num_tokens: int) -> None:
    script = Script(pieces)
    (result,) = script.write(stop=stop)
    certain = 3 - math.log(math.exp(3) + len(script.pieces) - 1)
    assert result == Generated(text, pytest.approx(num_tokens * certain, abs=1e-5), tuple(range(1, num_tokens + 1)))


def test_rows_that_are_done_leave_the_batch_and_the_last_one_ends_it() -> None:
    script = Script(["a", "b", "c", "d", "\n"], ["e", "\n"], ["f", "g", "\n"], [EOS])
    results = script.write(max_new_tokens=50)
    assert [result.text for result in results] == ["abcd", "e", "fg", ""]
    assert script.rows == [4, 3, 2, 1, 1]


def test_text_of_one_row_does_not_depend_on_rows_that_left(model: Any, tiny_tokenizer: Any) -> None:
    """Each row ends at another step, by a token of its own, among padded rows."""
    full = write(model, tiny_tokenizer)
    ends = [full[0].tokens[2], full[3].tokens[6]]
    model.generation_config.eos_token_id = ends
    for before, after in zip(full, write(model, tiny_tokenizer), strict=True):
        at = min([before.tokens.index(end) for end in ends if end in before.tokens], default=12)
        assert after.tokens == before.tokens[:at]


# --- noise ---------------------------------------------------------------------------------------


def test_gumbel_noise_has_the_moments_of_its_distribution() -> None:
    keys = torch.tensor([[0, 0], [0, 1], [1, 0], [-5, 7]], dtype=torch.int32)
    noise = gumbel(keys, 100_000).double()
    for row in noise:
        assert float(row.mean()) == pytest.approx(0.5772, abs=0.02)  # Euler's constant, 5 standard errors
        assert float(row.var()) == pytest.approx(math.pi**2 / 6, abs=0.06)
        assert float((row <= 0).double().mean()) == pytest.approx(math.exp(-1), abs=0.008)
        assert float(torch.corrcoef(torch.stack([row[1:], row[:-1]]))[0, 1]) == pytest.approx(0, abs=0.016)
    assert float((torch.corrcoef(noise) - torch.eye(4)).abs().max()) < 0.016


def test_noise_of_extreme_bits_never_wins_for_certain() -> None:
    bits = torch.tensor([-(2**31), -(2**31) + 1, -1, 0, 1, 2**31 - 1], dtype=torch.int32)
    noise = _from_bits(bits)
    assert float(noise.max()) == pytest.approx(-math.log(2.0**-32), abs=1e-3)
    assert not noise.isnan().any()


def test_every_step_has_noise_of_its_own() -> None:
    class Flat(Script):
        """All pieces are as likely as each other at every step."""

        def __call__(self, texts: list[str] | None = None, **rest: Any) -> Any:
            said = super().__call__(texts, **rest)
            return said if texts else SimpleNamespace(logits=torch.zeros_like(said.logits))

    (result,) = Flat(["a"] * 99).write(max_new_tokens=50, stop=None, temperature=1.0)
    assert len(set(result.tokens)) > 30  # 39 expected of 100


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_are_drawn_from_the_tempered_softmax(tiny_model: Any, tiny_tokenizer: Any, temperature: float) -> None:
    number = 2000
    with torch.inference_mode():
        logits = tiny_model(torch.tensor([tiny_tokenizer("ab")["input_ids"]])).logits[0, -1]
    expected = (logits / temperature).softmax(dim=0)
    names = [f"item-{i}" for i in range(number)]
    results = write(tiny_model, tiny_tokenizer, ["ab"] * number, names=names, temperature=temperature, max_new_tokens=1)
    drawn = Counter(result.tokens[0] for result in results)
    for token in expected.topk(8).indices.tolist():
        p = float(expected[token])
        assert drawn[token] / number == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / number))
