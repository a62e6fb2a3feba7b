"""Whether training is scaled rightly: activations at initialisation by width, and whether learning rates transfer."""
