"""Products, convolutions and attention as functions of arrays: what modules compute with, and their gradients."""
