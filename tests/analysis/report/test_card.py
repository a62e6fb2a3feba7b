"""Claims about the card: what papers leave out, from the records, and null for what nothing recorded."""

import json

from analysis.report.card import find_empty
from analysis.report.make import make_report
from analysis.report.subject import ReportOptions
from tests.analysis.report.tables import make_sweep


def test_the_card_of_a_store_says_what_was_trained_and_how_it_was_fitted(report):
    card = json.loads(json.dumps(report.card))
    assert card["hypothesis"][0]["form"] == "y = E + A x^-alpha"
    assert card["training"]["unique_data"] == {"from": 100.0, "to": 3200.0, "values": 6}
    assert card["training"]["num_params_counted_as"] == "total"
    assert card["data_collection"]["training_data"] == [["digits", "a" * 64]]
    assert card["additions"]["seeds"] == 4
    fit = next(each for each in card["fitting"] if each["label"] == "flat")
    assert (fit["objective"]["name"], fit["objective"]["reduction"], fit["points"]) == ("huber", "sum", 24)
    assert fit["resamples"] == 200


def test_the_card_of_a_table_names_its_empty_fields(tmp_path):
    make_sweep().to_csv(tmp_path / "runs.csv", index=False)
    card = make_report(str(tmp_path / "runs.csv"), options=ReportOptions(resamples=20)).card
    assert card["training"]["settings_tuned"]["peak_lr"]["values"] == 18
    assert "training.training_code" in find_empty(card)
    assert "data_collection.table_sha256" not in find_empty(card)
