"""The engine against a stand-in with vLLM's names and shapes; the real library needs a GPU.

The stand-in refuses arguments that vLLM's own classes do not have, and scores by the tiny model of
the other tests, so that numbers can be compared with engine `transformers`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from fake_openai import asking, text_query

from labelrel.errors import ConfigError, InputError
from labelrel.supervise import transformers_engine, vllm_engine
from labelrel.supervise.engines import Engine, Supervisor, engines
from labelrel.supervise.seeds import derived_seed


@dataclass
class SamplingParams:
    temperature: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True


@dataclass
class Logprob:
    logprob: float


@dataclass
class StandIn:
    """What `import vllm` gives, and what happened to it."""

    model: Any
    tokenizer: Any
    loaded: dict[str, Any] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)
    resets: int = 0
    fails: Exception | None = None

    def library(self) -> ModuleType:
        stand_in = self

        class LLM:
            def __init__(
                self,
                model: str,
                *,
                dtype: str,
                max_model_len: int | None,
                gpu_memory_utilization: float,
                tensor_parallel_size: int,
                seed: int,
                trust_remote_code: bool,
            ) -> None:
                stand_in.loaded = {"model": model, "dtype": dtype, "trust_remote_code": trust_remote_code}
                if stand_in.fails:
                    raise stand_in.fails

            def get_tokenizer(self) -> Any:
                return stand_in.tokenizer

            def reset_prefix_cache(self) -> bool:
                stand_in.resets += 1
                return True

            def generate(self, prompts: list[Any], sampling_params: Any, *, use_tqdm: bool = True) -> list[Any]:
                assert not use_tqdm
                stand_in.calls.append((prompts, sampling_params))
                if stand_in.fails:
                    raise stand_in.fails
                each = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
                return [stand_in.run(one["prompt_token_ids"], p) for one, p in zip(prompts, each, strict=True)]

        module = ModuleType("vllm")
        module.__dict__.update(LLM=LLM, SamplingParams=SamplingParams, __version__="0.0-stand-in")
        return module

    def run(self, ids: list[int], params: SamplingParams) -> Any:
        with torch.inference_mode():
            logprobs = self.model(torch.tensor([ids])).logits[0].float().log_softmax(dim=-1)
        told: list[Any] = [None]  # nothing comes before the first token
        told += [{ids[i]: Logprob(logprobs[i - 1, ids[i]].item())} for i in range(1, len(ids))]
        text = f" {ids[-1]}" if params.detokenize else ""
        output = SimpleNamespace(text=text, cumulative_logprob=None if params.logprobs is None else -0.5)
        return SimpleNamespace(prompt_logprobs=None if params.prompt_logprobs is None else told, outputs=[output])


@pytest.fixture
def stand_in(tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tiny_model, tiny_tokenizer)
    monkeypatch.setitem(sys.modules, "vllm", made.library())
    for name in vllm_engine._SETTINGS:
        monkeypatch.setenv(name, "")  # put back afterwards
        monkeypatch.delenv(name)
    return made


@pytest.fixture
def folder(tmp_path: Any, tiny_model: Any, tiny_tokenizer: Any) -> str:
    place = tmp_path / "model"
    tiny_model.save_pretrained(place)
    tiny_tokenizer.save_pretrained(place)
    return str(place)


def open_engine(folder: str, told: Any, **options: Any) -> Engine:
    return engines.get("vllm").open(told, {"model": folder, **options})


QUERIES = [text_query(f"q{n}", str(v), ("Paris", "Rome or so", "Oslo")) for n in range(4) for v in range(2)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_choices_are_those_of_engine_transformers(stand_in, folder, tmp_path, temperature):
    told = asking(tmp_path, "choice", temperature=temperature)
    here = Supervisor(stand_in.model, stand_in.tokenizer, "tiny", "")
    expected = transformers_engine.TransformersEngine(here, told).ask(QUERIES)
    replies = open_engine(folder, told).ask(QUERIES)
    assert [(r.completion, r.answer) for r in replies] == [(r.completion, r.answer) for r in expected]
    for reply, other in zip(replies, expected, strict=True):
        assert reply.choice_logprobs == pytest.approx(other.choice_logprobs, abs=1e-4)
        assert reply.answer_logprob == reply.choice_logprobs[int(reply.answer)]


def test_only_the_tokens_of_the_option_count():
    told = [None, {5: Logprob(-1.0)}, {6: Logprob(-2.0), 9: Logprob(-0.1)}, {7: Logprob(-4.0)}]
    output = SimpleNamespace(prompt_logprobs=told)
    assert vllm_engine._sum_after(2, [4, 5, 6, 7], output) == -6.0


def test_an_option_is_scored_by_one_request(stand_in, folder, tmp_path):
    open_engine(folder, asking(tmp_path, "choice")).ask(QUERIES)
    ((prompts, params),) = stand_in.calls
    assert len(prompts) == 8 * 3
    assert (params.max_tokens, params.prompt_logprobs, params.temperature) == (1, 0, 0.0)


def test_generate_gives_each_query_its_seed(stand_in, folder, tmp_path):
    replies = open_engine(folder, asking(tmp_path, temperature=0.7, max_new_tokens=9)).ask(QUERIES)
    ((_, params),) = stand_in.calls
    assert [p.seed for p in params] == [derived_seed(1, query) for query in QUERIES]
    assert len({p.seed for p in params}) == len(QUERIES)
    assert {(p.temperature, p.max_tokens, tuple(p.stop), p.logprobs) for p in params} == {(0.7, 9, ("\n",), 0)}
    assert [(r.answer, r.answer_logprob, r.choice_logprobs) for r in replies] == [(None, -0.5, None)] * 8
    assert all(reply.completion.strip().isdigit() for reply in replies)


def test_nothing_is_drawn_at_temperature_zero(stand_in, folder, tmp_path):
    open_engine(folder, asking(tmp_path)).ask(QUERIES)
    assert [p.seed for p in stand_in.calls[0][1]] == [None] * 8


def test_blocks_do_not_depend_on_those_before(stand_in, folder, tmp_path):
    engine = open_engine(folder, asking(tmp_path), block=4)
    assert engine.block == 4
    engine.ask(QUERIES[:4])
    engine.ask(QUERIES[4:])
    assert stand_in.resets == 2


def test_the_model_is_the_supervisors_where_none_is_named(stand_in, folder, tmp_path):
    engine = engines.get("vllm").open(asking(tmp_path, model=folder), {})
    assert (engine.name, stand_in.loaded["model"]) == (folder, folder)
    assert stand_in.loaded["trust_remote_code"] is False


def test_vllm_is_told_to_send_nothing_and_to_keep_stdout_free(stand_in, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    open_engine(folder, asking(tmp_path))
    assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert os.environ["VLLM_LOGGING_STREAM"] == "ext://sys.stderr"
    assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"  # the user's own counts


def test_the_key_knows_weights_version_and_settings(stand_in, folder, tmp_path):
    key = open_engine(folder, asking(tmp_path)).key
    assert key == open_engine(folder, asking(tmp_path), gpu_memory_utilization=0.5).key
    assert key != open_engine(folder, asking(tmp_path), dtype="float32").key
    assert key != open_engine(folder, asking(tmp_path, temperature=1.0)).key
    sys.modules["vllm"].__dict__["__version__"] = "0.1"
    assert key != open_engine(folder, asking(tmp_path)).key


def test_open_questions_cannot_be_chosen(stand_in, folder, tmp_path):
    query = text_query("q")
    query = type(query)(query.item, "0", query.prompt, None, query.read)
    with pytest.raises(ConfigError, match=r"item q is an open question.*sample\.mode to generate"):
        open_engine(folder, asking(tmp_path, "choice")).ask([query])


def test_what_vllm_refuses_is_told_in_one_line(stand_in, folder, tmp_path):
    engine = open_engine(folder, asking(tmp_path))
    stand_in.fails = ValueError("The prompt is longer\nthan the maximum model length")
    with pytest.raises(InputError, match=r"refuses the prompts: The prompt is longer than the max.*max_model_len"):
        engine.ask(QUERIES)
    stand_in.fails = RuntimeError("no GPU")
    with pytest.raises(InputError, match=r"vLLM cannot load .*: no GPU"):
        open_engine(folder, asking(tmp_path))


def test_a_cut_model_is_refused(stand_in, tmp_path):
    with pytest.raises(ConfigError, match=r"vLLM asks whole models; write 'smollm2-135m', without @layers"):
        open_engine("smollm2-135m@layers=10", asking(tmp_path))


def test_a_missing_library_is_told_in_one_line(stand_in, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)  # as if it were not there
    with pytest.raises(ConfigError, match=r"engine 'vllm' needs the package 'vllm'.*pip install 'labelrel\[vllm\]'"):
        open_engine(folder, asking(tmp_path))
