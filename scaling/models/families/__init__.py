"""One file a family: from a specification to a shape, from a shape to layers; published networks by name."""
