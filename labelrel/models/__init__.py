"""Model references, the local cache, and running a model whole or from its frozen trunk."""

import os

# read once, when torch loads: a thread that waits by spinning takes many times as long on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
