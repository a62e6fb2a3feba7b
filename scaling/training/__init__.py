"""A job, from its cells to their records: placed, run in chunks, evaluated, kept and resumed; and what it will cost."""
