"""A study's cells, on machines."""
