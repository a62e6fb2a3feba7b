"""Figures of the checks: activations by width, and learning rates that transfer."""
