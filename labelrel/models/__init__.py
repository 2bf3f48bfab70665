"""Model references, the local cache, and running a model whole or from its frozen trunk."""

import os

# Read once, when torch loads. Threads that spin while they wait take many times as long on a busy
# machine; threads that never spin a third longer on a quiet one. This is in between.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
