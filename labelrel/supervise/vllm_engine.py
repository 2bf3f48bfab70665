"""Engine `vllm`: a whole table of questions at once on a GPU, in this process.

The parts of vLLM that are used (0.10 and later): `LLM(model=, ...)`, `get_tokenizer`,
`reset_prefix_cache`, `generate(prompts, sampling_params, use_tqdm=)` with `{"prompt_token_ids": ids}`
as a prompt, and of its results `prompt_logprobs[position][token].logprob`, `outputs[0].text` and
`.cumulative_logprob`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from labelrel.errors import ConfigError, InputError
from labelrel.files import digest, read_json
from labelrel.plugin import Params
from labelrel.supervise.engines import Asking, Reply, chosen, closed, engine
from labelrel.supervise.optional import optional
from labelrel.supervise.seeds import derived_seed
from labelrel.supervise.variants import Query

_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing leaves the machine
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # results alone go to stdout
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the same requests are put into the same batches every time
}
"""Of vLLM's environment, where the user has not set them."""


class VLLMParams(Params):
    """Settings of engine `vllm`.

    Attributes:
        model: reference of the model to ask, as it is; null means that of the weak supervisor.
        dtype: of the weights, as vLLM names them.
        max_model_len: longest prompt and completion in tokens; null means the model's.
        gpu_memory_utilization: share of the GPU's memory that vLLM takes.
        tensor_parallel_size: number of GPUs that share the model.
        stop: texts that end a completion; null means the end of the line.
        block: queries per block: what a kill can cost.
    """

    model: str | None = None
    dtype: str = "auto"
    max_model_len: int | None = Field(None, ge=1)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    tensor_parallel_size: int = Field(1, ge=1)
    stop: list[str] | None = None
    block: int = Field(8192, ge=1)


class VLLMEngine:
    """Asks a model that vLLM has loaded.

    Args:
        vllm: the library.
        llm: its `LLM`.
        params: settings.
        asking: mode, temperature, seed, longest completion.
        name: of the annotator.
        weights: digest of the model.
    """

    def __init__(self, vllm: Any, llm: Any, params: VLLMParams, asking: Asking, *, name: str, weights: object) -> None:
        self.name = name
        self.block = params.block
        settings = params.model_dump(exclude={"model", "gpu_memory_utilization", "block"})
        draws = [asking.mode, asking.temperature, asking.seed, asking.max_new_tokens]
        self.key: object = [weights, vllm.__version__, settings, *draws]
        self._vllm = vllm
        self._llm = llm
        self._stop = ["\n"] if params.stop is None else params.stop
        self._asking = asking

    def ask(self, queries: Sequence[Query]) -> list[Reply]:
        """Return one reply per query.

        Raises:
            ConfigError: an open item in mode `choice`.
            InputError: a prompt that is too long for the model.
        """
        # what an earlier block left there would change the last digits of this one, and a resumed run lacks it
        self._llm.reset_prefix_cache()
        return self._choose(queries) if self._asking.mode == "choice" else self._generate(queries)

    def _choose(self, queries: Sequence[Query]) -> list[Reply]:
        """Score every option as the continuation of its prompt, by the log-probabilities of its tokens."""
        from labelrel.models.choice import tokenize

        prompts = tokenize(self._llm.get_tokenizer(), [(query.prompt, closed(query)) for query in queries])
        ids = [[*prompt.prefix, *branch] for prompt in prompts for branch in prompt.branches]
        # vLLM has no request that only scores: one token is written and thrown away
        params = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        scored = iter(zip(ids, self._run([{"prompt_token_ids": one} for one in ids], params), strict=True))
        replies = []
        for query, prompt in zip(queries, prompts, strict=True):
            sums = [_sum_after(len(prompt.prefix), *next(scored)) for _ in prompt.branches]
            most = max(sums)
            total = most + math.log(sum(math.exp(value - most) for value in sums))
            replies.append(chosen(query, [value - total for value in sums], self._asking))
        return replies

    def _generate(self, queries: Sequence[Query]) -> list[Reply]:
        asking = self._asking
        params = [
            self._vllm.SamplingParams(
                temperature=asking.temperature,
                max_tokens=asking.max_new_tokens,
                seed=derived_seed(asking.seed, query) if asking.temperature > 0 else None,
                stop=self._stop,
                logprobs=0,  # of the token that was drawn, none besides
            )
            for query in queries
        ]
        tokens = self._llm.get_tokenizer()([query.prompt for query in queries])["input_ids"]
        replies = []
        written = self._run([{"prompt_token_ids": ids} for ids in tokens], params)
        for query, output in zip(queries, written, strict=True):
            one = output.outputs[0]
            replies.append(Reply(one.text, query.read(one.text).answer, one.cumulative_logprob, None))
        return replies

    def _run(self, prompts: list[Any], params: Any) -> list[Any]:
        try:
            outputs: list[Any] = self._llm.generate(prompts, params, use_tqdm=False)
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"vLLM refuses the prompts: {reason}; check sample.options.max_model_len.") from error
        return outputs


def _sum_after(start: int, ids: Sequence[int], output: Any) -> float:
    """Return the log-probability of the tokens from a position on."""
    return sum(float(output.prompt_logprobs[place][ids[place]].logprob) for place in range(start, len(ids)))


def _weights(folder: Path) -> object:
    """Return what identifies a model's weights, from the record beside them where there is one."""
    record = folder / "labelrel.json"
    known: object = read_json(record).get("weights_sha256") if record.is_file() else None
    return known or [digest(file) for file in sorted(folder.glob("*.safetensors"))]


@engine("vllm", VLLMParams, tuned=False)
def vllm(asking: Asking, params: VLLMParams) -> VLLMEngine:
    """A model in vLLM on a GPU, thousands of questions at once: options scored as continuations, or text generated.

    Source: Kwon et al. 2023, Efficient Memory Management for Large Language Model Serving with
    PagedAttention (SOSP, arXiv 2309.06180).
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    library = optional("vllm", "vllm")
    from labelrel.models.fetch import fetch
    from labelrel.models.reference import parse_reference

    reference = parse_reference(params.model or asking.model)
    if reference.layers is not None:
        raise ConfigError(
            f"vLLM asks whole models; write '{str(reference).rpartition('@')[0]}', without @layers, in "
            "sample.options.model."
        )
    folder = fetch(reference)
    try:
        llm = library.LLM(
            model=str(folder),
            dtype=params.dtype,
            max_model_len=params.max_model_len,
            gpu_memory_utilization=params.gpu_memory_utilization,
            tensor_parallel_size=params.tensor_parallel_size,
            seed=0,
            trust_remote_code=False,
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"vLLM cannot load {reference}: {reason}") from error
    return VLLMEngine(library, llm, params, asking, name=str(reference), weights=_weights(folder))
