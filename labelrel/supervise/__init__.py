"""The weak supervisor: who is asked, in which wordings, and how no answer gets lost.

Importing this package registers every engine; it loads no model and no library that only one needs.
"""

from labelrel.supervise import file_engine, openai_server, transformers_engine, vllm_engine
from labelrel.supervise.engines import Asking, Engine, EngineKind, Reply, Supervisor, engines

__all__ = [
    "Asking",
    "Engine",
    "EngineKind",
    "Reply",
    "Supervisor",
    "engines",
    "file_engine",
    "openai_server",
    "transformers_engine",
    "vllm_engine",
]
