"""Training set + strong model → LoRA adapter, with losses, data order and evaluation."""
