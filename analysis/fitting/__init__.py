"""A law fitted to points: objectives, the global search, the solver, and what a fit says of its own weakness."""
