"""Records → laws → decisions; imports no Flax, no TFDS and no W&B."""
