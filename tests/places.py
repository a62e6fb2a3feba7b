"""Where tests find what is not theirs: the repository, and real data beside it, where there is some."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
TABLES = SHARED_DATA / "scaling-tables"
