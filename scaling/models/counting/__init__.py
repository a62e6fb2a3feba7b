"""Parameters and FLOPs of a network, and the shape of an asked size; counted from its layers, without an array."""
