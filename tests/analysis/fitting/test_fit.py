"""Claims about fits as documents: read back they predict bit for bit, and other files are refused."""

from __future__ import annotations

import json

import pytest

from analysis.errors import AnalysisError
from analysis.fitting.fit import Fit, choose_fit, document_fits, load_fits
from analysis.fitting.fit_law import fit_law
from tests.analysis.fitting.series import series


def test_a_saved_fit_predicts_bit_for_bit():
    m, y = series(0.1, 5.0, 0.5)
    fit = fit_law("power_floor", {"data_unique": m}, y, label="mlp")
    again = Fit.model_validate_json(fit.model_dump_json())
    assert again == fit
    assert again.predict({"data_unique": m}).tobytes() == fit.predict({"data_unique": m}).tobytes()


@pytest.fixture(scope="module")
def two():
    m, y = series(0.1, 5.0, 0.5)
    return [fit_law("power_floor", {"data_unique": m}, y, label=label) for label in ("mlp", "forest")]


def test_a_file_holds_one_fit_or_several_and_draws_only_where_asked(two, tmp_path):
    path = tmp_path / "fit.json"
    path.write_text(two[0].model_dump_json())
    assert load_fits(str(path)) == two[:1]
    path.write_text(json.dumps(document_fits(two)))
    assert load_fits(str(path)) == two
    assert all("draws" not in document for document in document_fits(two, with_draws=False)["fits"])


def test_what_is_no_saved_fit_is_said_in_one_line(tmp_path):
    with pytest.raises(AnalysisError, match="does not exist; write one with scaling fit TABLE --to"):
        load_fits(str(tmp_path / "none.json"))
    for text in ("{", "[]", '{"law": "power"}'):
        (tmp_path / "fit.json").write_text(text)
        with pytest.raises(AnalysisError, match=r"holds no saved fit \(.*\); write one with scaling fit --to$"):
            load_fits(str(tmp_path / "fit.json"))


def test_of_several_fits_one_is_chosen_by_its_label(two):
    assert choose_fit(two, "forest") is two[1]
    assert choose_fit(two[:1], None) is two[0]
    with pytest.raises(AnalysisError, match="holds 2 fits; choose one with --label: mlp, forest"):
        choose_fit(two, None)
    with pytest.raises(AnalysisError, match="did you mean 'forest'"):
        choose_fit(two, "forst")
