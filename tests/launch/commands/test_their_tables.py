"""Tables that nobody here made, as a stranger brings them to the command line: the right value, or what is wrong."""

import json

import numpy as np
import pytest

SIZES = (70e6, 160e6, 410e6, 1e9, 2.8e9, 6.9e9, 16.2e9)
RATIOS = (5, 20, 80, 200)


def loss_of(size, data):
    return 1.8172 + 477.83 * size**-0.34731 + 2143.4 * data**-0.36717


RUNS = [
    {"num_params": size, "data_seen": size * ratio, "train_flops": 6 * size * size * ratio,
     "loss": float(loss_of(size, size * ratio))}
    for size in SIZES for ratio in RATIOS
]  # fmt: skip


def write(here, name, rows, sep=","):
    lines = [sep.join(rows[0]), *(sep.join("" if item is None else str(item) for item in row.values()) for row in rows)]
    (here.folder / name).write_text("\n".join(lines) + "\n")
    return name


def in_millions(row):
    return {**row, "num_params": row["num_params"] / 1e6, "data_seen": row["data_seen"] / 1e9}


def both(here, *words):
    done = here(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def fails(here, *words):
    done = here(*words)
    assert done.returncode == 2 and not done.stdout and "Traceback" not in done.stderr, done
    return done.stderr


def law(here, *words):
    return here.json("fit", *words, "--law", "chinchilla", "--bootstrap", 0)["fits"]


def test_compute_in_other_units_than_sizes_is_refused_with_the_units_that_agree(here):
    name = write(here, "t.csv", [in_millions(row) for row in RUNS])
    told = fails(here, "optimum", name, "--flops", "1e21")
    assert "num_params*1e6" in told and "data_seen*1e9" in told
    units = ("--column", "num_params=num_params*1e6", "--column", "data_seen=data_seen*1e9")
    found = here.json("optimum", name, "--flops", "1e21", *units)["approaches"]
    sizes = {row["approach"]: row["num_params"] for row in found}
    assert sizes["parametric"] == pytest.approx(
        2.792e9, rel=0.002
    )  # (alpha A / beta B)^(1 / 0.71448) (C / 6)^(beta / 0.71448)


def test_a_fit_in_wrong_units_is_weak_and_gives_no_optimum(here):
    name = write(here, "t.csv", [in_millions(row) for row in RUNS])
    (found,) = law(here, name, "--to", "fit.json")
    assert found["status"] == "weak" and "units_disagree" in {one["code"] for one in found["warnings"]}
    assert "num_params*1e6" in fails(here, "optimum", "fit.json", "--flops", "1e21")


def test_units_in_headers_are_proposed_and_what_is_proposed_works(here):
    rows = [
        {"Size": f"{row['num_params'] / 1e6:g}M", "Tokens (B)": row["data_seen"] / 1e9, "val loss ": row["loss"]}
        for row in RUNS
    ]
    name = write(here, "t.csv", rows)
    told = fails(here, "fit", name, "--law", "chinchilla")
    assert "count(Size)" in told and "`Tokens (B)`*1e9" in told
    columns = (
        "--column",
        "num_params=count(Size)",
        "--column",
        "data_seen=`Tokens (B)`*1e9",
        "--column",
        "loss=val loss",
    )
    (found,) = law(here, name, *columns)
    assert found["params"]["alpha"] == pytest.approx(0.34731, abs=1e-4)
    assert found["params"]["A"] == pytest.approx(477.83, rel=1e-2)
    table = here.json("table", name, *columns)
    assert [row["data_seen"] for row in table] == [row["data_seen"] for row in RUNS]


def test_rows_without_a_label_are_a_series_of_their_own(here):
    rows = [{**row, "label": label} for label in ("A", "B", None) for row in RUNS[:20]]
    rows = [{**row, "loss": row["loss"] * (1 + place / 7)} for place, row in enumerate(rows)]
    name = write(here, "t.csv", rows)
    for words in (
        ("--law", "chinchilla", "--bootstrap", 0),
        ("--law", "power", "--bootstrap", 20, "--column", "data_unique=data_seen"),
    ):
        found = here.json("fit", name, "--by", "label", *words)["fits"]
        assert {one["label"]: one["n"] for one in found} == {"A": 20, "B": 20, "(no label)": 20}


def test_copies_are_named_and_counted_once_unless_told(here):
    name = write(here, "t.csv", [*RUNS, *RUNS[3:18]])
    (found,) = law(here, name)
    assert (found["n"], found["left_out"]) == (28, {"the same as another row": 15})
    assert "row 29 is row 4" in found["conventions"]["rows"]
    (every,) = law(here, name, "--copies", "all")
    assert every["n"] == 43
    rows, told = both(here, "table", name)
    assert rows.count("\n") == 44 and "15 rows repeat" in told


def test_long_whole_numbers_are_numbers(here):
    name = write(here, "t.csv", [{**row, "train_flops": int(row["train_flops"] * 1000)} for row in RUNS])
    both(here, "table", name, "--to", "t.parquet")
    kept = here.json("table", name, "--keep", "train_flops<1e23")
    assert 0 < len(kept) < len(RUNS)


def test_semicolons_and_decimal_commas_are_read_and_said(here):
    text = "\n".join(
        [";".join(RUNS[0]), *(";".join(f"{value:f}".replace(".", ",") for value in row.values()) for row in RUNS)]
    )
    (here.folder / "t.csv").write_text(text)
    assert "decimal" in both(here, "table", "t.csv")[1]
    (found,) = law(here, "t.csv")
    assert found["params"]["alpha"] == pytest.approx(0.34731, abs=1e-3)


def test_words_of_a_tracker_for_how_runs_ended_are_understood(here):
    rows = [{**row, "State": "crashed" if place % 9 == 4 else "finished"} for place, row in enumerate(RUNS)]
    name = write(here, "t.csv", rows)
    assert "status=State" in both(here, "table", name)[1]
    (found,) = law(here, name, "--column", "status=State")
    assert (found["n"], found["left_out"]) == (25, {"status is interrupted": 3})


def test_the_last_of_each_run_and_the_best_over_a_setting_are_one_option_each(here):
    rows = [
        {"run": f"{row['num_params']:g}-{row['data_seen']:g}", **row, "step": step, "lr": rate,
         "loss": row["loss"] * (1 + (10 - step) / 10) * (1 + abs(np.log10(rate / 1e-3)) / 10)}
        for row in RUNS for rate in (1e-4, 1e-3, 1e-2) for step in (10, 4, 7)
    ]  # fmt: skip
    rows = [{**row, "run": f"{row['run']}-{row['lr']}"} for row in rows]
    name = write(here, "t.csv", rows)
    assert "--last-of run" in both(here, "table", name)[1]
    (found,) = law(here, name, "--last-of", "run", "--best-over", "lr")
    assert found["n"] == 28 and found["params"]["alpha"] == pytest.approx(0.34731, abs=1e-4)


def test_settings_in_the_names_of_files_and_runs_are_columns(here):
    (here.folder / "curves").mkdir()
    for row in RUNS:
        (here.folder / "curves" / f"curve_N{row['num_params'] / 1e6:g}M_D{row['data_seen']:g}.csv").write_text(
            f"step,loss\n1,9.0\n2,{row['loss']}\n"
        )
    words = ("curves/*.csv", "--name", "curve_N{num_params}_D{data_seen}.csv", "--last-of", "file")
    (found,) = law(here, *words)
    assert found["n"] == 28 and found["params"]["alpha"] == pytest.approx(0.34731, abs=1e-4)
    rows = [{"name": f"llama-{row['num_params']:g}-{row['data_seen']:g}", "loss": row["loss"]} for row in RUNS]
    (again,) = law(here, write(here, "named.csv", rows), "--name", "llama-{num_params}-{data_seen}")
    assert again["params"] == found["params"]


def test_several_files_are_one_table(here):
    whole = write(here, "whole.csv", RUNS)
    parts = [write(here, f"part{part}.csv", RUNS[part::3]) for part in range(3)]
    assert law(here, *parts)[0]["params"] == law(here, whole)[0]["params"]


def test_a_table_in_json_is_no_saved_fit(here):
    (here.folder / "t.json").write_text(json.dumps(RUNS))
    found = here.json("optimum", "t.json", "--flops", "1e21")["approaches"]
    assert {row["approach"] for row in found} >= {"parametric"}


def test_one_cluster_gives_an_estimate_without_an_interval(here):
    name = write(here, "t.csv", [{**row, "project": "p"} for row in RUNS])
    (found,) = here.json("fit", name, "--law", "chinchilla", "--scheme", "pairs", "--cluster", "project")["fits"]
    assert found["params"]["alpha"] == pytest.approx(0.34731, abs=1e-3)
    assert set(map(tuple, found["ci95"].values())) == {(None, None)} and found["status"] == "weak"


def test_text_in_a_column_of_numbers_names_its_row(here):
    rows = [{**row, "loss": "oops" if place == 6 else row["loss"]} for place, row in enumerate(RUNS)]
    told = fails(here, "fit", write(here, "t.csv", rows), "--law", "chinchilla")
    assert "'oops' (1 of 28 values), first in row 7" in told
