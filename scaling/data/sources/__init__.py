"""One file a kind of source: from its specification to examples and an evaluation set."""
