"""One training run, from its cell to its record."""

__version__ = "0.1.0"
