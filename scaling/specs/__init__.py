"""What may be asked for: models, data, training, cells, studies and how they are run; specifications, free of JAX."""
