"""Claims about errors: an unknown name is answered by the nearest one, in one line."""

import pytest

from analysis.errors import AnalysisError, suggest_name


def test_an_unknown_name_is_answered_by_the_nearest_or_by_all_in_one_line():
    near = suggest_name("law", "powr", ["power", "m4"])
    assert str(near) == "law='powr' is unknown; did you mean 'power'?"
    far = suggest_name("column", "zzz", [3, "loss"])  # a table may have numbers for names
    assert str(far) == "column='zzz' is unknown; choose one of '3', 'loss'"
    with pytest.raises(AnalysisError, match="there are none"):
        raise suggest_name("label", "a", [])
