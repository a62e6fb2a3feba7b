"""Anybody's records as one tidy table: read, renamed, derived, kept, checked."""
