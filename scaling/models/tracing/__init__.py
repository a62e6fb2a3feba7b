"""A user's own Flax module: made, applied as pure functions, and counted by what its traced program does."""
