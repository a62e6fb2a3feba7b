"""Claims about charts of W&B: a row is a run and a step, whatever signs are in names, and other tables stay."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.tables.files.charts import read_chart
from analysis.tables.files.reading import read_files

NAN = float("nan")


def export(bases, values, axis="Step"):
    columns = {axis: list(range(len(values[0])))}
    for base, column in zip(bases, values, strict=True):
        columns |= {base: column, f"{base}__MIN": column, f"{base}__MAX": column}
    return pd.DataFrame(columns)


@pytest.mark.parametrize("runs", [["a", "b"], ["7B - cosine", "7B - linear"], ["lr - 1", "lr - 2"]])
@pytest.mark.parametrize("metric", ["loss", "eval/loss"])
def test_a_row_is_a_run_and_a_step_that_has_a_value(runs, metric):
    chart = export([f"{run} - {metric}" for run in runs], [[3.0, 2.0], [NAN, 1.0]])
    frame, said = read_chart(chart)
    assert frame.to_dict("list") == {"run": [runs[0], runs[0], runs[1]], "Step": [0, 1, 1], metric: [3.0, 2.0, 1.0]}
    assert said[0].endswith(f"6 columns of 2 runs are 3 rows of run, Step, {metric}")


def test_a_metric_with_the_sign_in_it_is_what_all_columns_share():
    frame, _ = read_chart(export(["a - loss - val", "b - loss - val"], [[3.0], [2.0]]))
    assert frame["loss - val"].tolist() == [3.0, 2.0]
    assert frame["run"].tolist() == ["a", "b"]


def test_several_metrics_stand_side_by_side():
    frame, _ = read_chart(export(["a - loss", "b - loss", "a - _step"], [[3.0], [2.0], [7]], axis="Relative Time"))
    assert frame["loss"].tolist() == [3.0, 2.0]
    assert frame["_step"].fillna(-1).tolist() == [7, -1]


def test_least_and_most_stay_where_they_differ():
    chart = export(["a - loss"], [[3.0, 2.0]])
    chart["a - loss__MIN"] = [2.5, 2.0]
    frame, _ = read_chart(chart)
    assert frame.columns.tolist() == ["run", "Step", "loss", "loss__MIN"]
    assert frame["loss__MIN"].tolist() == [2.5, 2.0]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"N": [1], "train - loss": [2.0], "val - loss": [3.0]}),
        pd.DataFrame({"Step": [1], "a - loss": [2.0], "loss": [3.0]}),
        pd.DataFrame({"Step": [1], "a - loss": ["x"], "b - loss": [3.0]}),
        pd.DataFrame({"Step": [1]}),
        pd.DataFrame(),
    ],
)
def test_other_tables_stay_as_they_are(frame):
    found, said = read_chart(frame)
    assert found is frame
    assert said == ()


def test_names_of_runs_are_text_as_they_stand(read):
    text = '"Step","7 - loss","7 - loss__MIN","7 - loss__MAX"\n1,"3","3","3"\n2,"","",""\n'
    assert read("wandb_export.csv", text)[0] == {"run": ["7"], "Step": [1], "loss": [3.0]}


def test_charts_of_several_metrics_are_joined_by_run_and_axis(tmp_path):
    for metric, steps in (("loss", (1, 2, 3)), ("tokens", (1, 3))):
        rows = ["Step," + ",".join(f"N{size}M - {metric}{end}" for size in (7, 9) for end in ("", "__MIN", "__MAX"))]
        rows += [",".join([str(step), *[str(step)] * 3, *[str(step + 0.5)] * 3]) for step in steps]
        (tmp_path / f"{metric}.csv").write_text("\n".join(rows))
    frame, said = read_files([str(tmp_path / "*.csv")], name="N{num_params}")
    assert frame.columns.tolist() == ["run", "Step", "loss", "tokens", "num_params"]
    assert frame.fillna(0).to_numpy().tolist() == [
        ["N7M", 1, 1.0, 1.0, 7e6],
        ["N7M", 2, 2.0, 0.0, 7e6],
        ["N7M", 3, 3.0, 3.0, 7e6],
        ["N9M", 1, 1.5, 1.5, 9e6],
        ["N9M", 2, 2.5, 0.0, 9e6],
        ["N9M", 3, 3.5, 3.5, 9e6],
    ]
    assert "2 charts are joined by run and Step: 6 rows" in said
    two = [str(tmp_path / "loss.csv"), str(tmp_path / "again.csv")]
    (tmp_path / "again.csv").write_text((tmp_path / "loss.csv").read_text())
    assert len(read_files(two).frame) == 12  # of one metric: below each other
