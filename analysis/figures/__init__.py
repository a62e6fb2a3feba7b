"""Pictures of tables, fits and decisions; no number is computed here that a table lacks."""
