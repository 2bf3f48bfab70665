"""The weak supervisor: who is asked, in which wordings, and how no answer gets lost.

Importing this package registers every engine and loads no model.
"""

from labelrel.supervise import transformers_engine
from labelrel.supervise.engines import Asking, Engine, EngineKind, Reply, Supervisor, engines

__all__ = ["Asking", "Engine", "EngineKind", "Reply", "Supervisor", "engines", "transformers_engine"]
