"""Model references, the local cache, and running a model whole or from its frozen trunk."""
