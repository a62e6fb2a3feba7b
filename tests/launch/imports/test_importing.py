"""`scaling import` as a whole: asks for a mapping, takes it, and keeps the table that was there."""

import json


def test_without_a_mapping_the_command_asks_with_status_2_and_the_proposal_is_accepted(import_runs, tmp_path):
    (tmp_path / "r.csv").write_text("n_params,val_loss,tokens\n1000,3.0,10\n2000,2.0,20\n")
    words = ["csv", tmp_path / "r.csv", "--store", tmp_path / "store"]
    asked = import_runs(*words)
    proposal = tmp_path / "store" / "mapping.proposed.json"
    assert (asked.status, str(proposal) in asked.err) == (2, True)
    assert "summary.n_params" in asked.out
    assert not (tmp_path / "store" / "mapping.json").exists()
    assert not (tmp_path / "store" / "table.parquet").exists()
    as_json = import_runs(*words, "--json")
    assert (as_json.status, as_json.json["proposed"]["loss"]) == (2, "summary.val_loss")
    assert json.loads(proposal.read_text())["columns"] == as_json.json["proposed"]
    assert import_runs(*words, "--mapping", proposal).status == 0
    again = import_runs(*words, "--json")  # mapping.json is there now
    assert (again.status, again.json["report"]["rows"]) == (0, 2)


def test_a_mapping_that_leaves_no_row_says_why_and_keeps_the_old_table(import_runs, tmp_path):
    (tmp_path / "r.csv").write_text("n,loss,words\n1000,3.0,a\n2000,2.0,b\n")
    words = ["csv", tmp_path / "r.csv", "--store", tmp_path / "store"]
    assert import_runs(*words, "--column", "loss=loss").status == 0
    before = (tmp_path / "store" / "table.parquet").read_bytes(), (tmp_path / "store" / "mapping.json").read_bytes()
    done = import_runs(*words, "--column", "num_params=words")
    assert (done.status, "2 rows of 2 runs: summary.words is no number" in done.err) == (1, False)
    assert "dropped: 1 rows of 1 runs: summary.words is no number such as 'a'" in done.err
    after = (tmp_path / "store" / "table.parquet").read_bytes(), (tmp_path / "store" / "mapping.json").read_bytes()
    assert after == before
