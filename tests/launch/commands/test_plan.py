"""Plans: what every cell costs by itself, and what the study costs in all."""

import itertools
import json

import pytest

from launch.cli import main
from launch.commands.plan import describe_variation, largest_cells, plan_cells, summarise_plan
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, TextSource
from scaling.specs.models import MLPSpec, TransformerSpec
from scaling.specs.schedules import WSDSchedule
from scaling.specs.study import Series, Study, at_horizons, resolve_study
from scaling.specs.training import AdamWSpec, TrainingSpec


def leaves() -> Study:
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), schedule=WSDSchedule(), num_steps=200)
    data = DataSpec(source=DigitsSource(), size=300, evaluation_size=100)
    cell = Cell(model=MLPSpec(width=8), data=data, training=training)
    series = Series(label="net", cells=at_horizons(cell, [50, 100, 200]))
    return Study(name="leaves", question="?", series=(series,))


def test_leaves_have_the_flops_of_their_own_runs_and_the_trunk_is_paid_once():
    short, middle, long = plan_cells(leaves(), None)
    assert long["train_flops"] == 4 * short["train_flops"]
    step = short["train_flops"] / 50
    spent = [row["train_flops_spent"] / step for row in (short, middle, long)]
    assert spent == pytest.approx([50, 60, 120])  # from steps 0, 40 and 80 on


def test_a_summary_tells_lengths_apart():
    rows = summarise_plan(plan_cells(leaves(), None))
    assert [row["D"] for row in rows] == [128 * steps for steps in (50, 100, 200)]


def test_a_plan_shows_the_n_that_was_asked_for_and_the_total_where_they_differ(tmp_path, capsys):
    assert {"counted as", "total"}.isdisjoint(summarise_plan(plan_cells(leaves(), None))[0])
    data = DataSpec(source=TextSource(sequence_length=32), size=10, evaluation_size=10)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), batch_size=2, num_steps=1)
    first, second = (
        Cell(model=TransformerSpec(width=width, depth=1, convention=convention), data=data, training=training)
        for width, convention in ((12, "total"), (16, "matmul"))
    )
    series = (Series(label="a", cells=(first,)), Series(label="b", cells=(second,)))
    mixed = Study(name="mixed", question="?", metric="loss", series=series)
    whole, part = summarise_plan(plan_cells(mixed, None))
    assert (whole["counted as"], whole["total"], part["counted as"]) == ("total", whole["N"], "matmul")
    assert part["N"] < whole["N"] < part["total"]
    ((label, _),) = largest_cells(mixed)
    assert label == "b"  # the most parameters, however they are counted


def study(tmp_path):
    file = tmp_path / "two.py"
    file.write_text(
        """
from scaling.specs.cell import *
from scaling.specs.data import *
from scaling.specs.models import *
from scaling.specs.study import *
from scaling.specs.training import *

def study() -> Study:
    data = DataSpec(source=DigitsSource(), size=100, evaluation_size=100)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), batch_size=8, num_steps=10)
    nets = tuple(Cell(model=MLPSpec(width=width), data=data, training=training) for width in (64, 256, 128))
    linear = Cell(model=LogisticRegressionSpec(), data=data)
    series = (Series(label="net", cells=nets), Series(label="linear", cells=(linear,)))
    return Study(name="two", question="?", series=series)
"""
    )
    return str(file)


def test_the_largest_network_of_each_family_is_compiled_and_no_estimator(tmp_path):
    ((label, cell),) = largest_cells(resolve_study(study(tmp_path)))
    assert (label, cell.model.kind, cell.model.width) == ("net", "mlp", 256)


def test_a_plan_for_four_devices_divides_the_state_and_names_its_communication(tmp_path, capsys):
    assert main(["plan", study(tmp_path), "--topology", "cpu-4", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["largest"]
    assert (row["mesh"], row["num_devices"], row["compiler"], row["fits"]) == ({"fsdp": 4}, 4, "cpu", None)
    assert {each["kind"] for each in row["collectives"]} >= {"all-gather"}
    whole = 4 * row["num_params"]
    assert whole / 4 <= row["state_bytes"]["params"] < whole / 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5e-7"], "which layout 7 chips have is not known; write it out, as in v5e:4x8"),
        (["--topology", "cpu-4", "--execution", "mesh.data=3"], "training.batch_size=8"),
        (["--execution", "mesh.data=3"], "training.batch_size=8 cannot be divided by data * fsdp = 3; choose 6 or 9"),
        (["--execution", "mesh.data=3", "--json"], "training.batch_size=8 cannot be divided by data * fsdp = 3"),
        (["--execution", "micro_batches=3"], "training.batch_size=8 cannot be divided by micro_batches = 3"),
        (["--execution", "mesh.dta=2"], "--execution"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    assert main(["plan", study(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_plan_shows_counts_and_what_is_done(here, study_file):
    planned = here.json("plan", study_file, "--store", "store")["cells"]
    assert len(planned) == 12
    network = next(row for row in planned if row["label"] == "mlp")
    assert network["num_params"] == pytest.approx(3000, rel=0.03)
    assert network["data_seen"] == 1600
    assert network["train_flops"] > 1600 * 2 * network["num_params"]
    assert not any(row["done"] for row in planned)
    assert "12 cells, 0 done" in here("plan", study_file).stdout


def test_plan_and_record_agree(finished, here, study_file):
    planned = here.json("plan", study_file, "--store", "store")["cells"]
    assert all(row["done"] for row in planned)
    for row in planned:
        record = finished.read_record(row["cell"])
        assert (record.data_unique, record.evaluations[-1].data_seen) == (row["data_unique"], row["data_seen"])
        if 0 not in record.data.class_counts:  # a linear model has no row for a class that it has not seen
            assert record.num_params == row["num_params"]
        if row["train_flops"] is not None:  # scikit-learn's solvers tell their iterations afterwards
            assert record.evaluations[-1].train_flops == row["train_flops"]


def settings() -> Study:
    """A study whose learning rate, depth and length vary, each with each, and whose batch and data do not."""
    cells = []
    for rate, depth, steps, seed in itertools.product((1e-3, 3e-3), (1, 2), (10, 20), (0, 1)):
        training = TrainingSpec(optimizer=AdamWSpec(peak_lr=rate), batch_size=16, num_steps=steps)
        data = DataSpec(source=DigitsSource(), size=100, evaluation_size=100)
        cells.append(Cell(model=MLPSpec(width=16, depth=depth), data=data, training=training, seed=seed))
    return Study(name="three", question="?", metric="error", series=(Series(label="net", cells=tuple(cells)),))


def test_every_setting_has_a_line_of_its_own_and_seeds_share_one():
    rows = summarise_plan(plan_cells(settings(), None))
    assert [(row["depth"], row["peak_lr"], row["D"], row["seeds"]) for row in rows] == [
        (depth, rate, 16 * steps, 2) for rate in (1e-3, 3e-3) for depth in (1, 2) for steps in (10, 20)
    ]
    assert len({row["N"] for row in rows}) == 2
    assert {"batch_size", "num_steps", "size", "width"}.isdisjoint(rows[0])


def test_what_varies_is_listed_in_text_and_in_json(here):
    (here.folder / "study.json").write_text(settings().canonical_json())
    document = here.json("plan", "study.json")
    assert document["varies"] == {
        "model.depth": [1, 2], "training.optimizer.peak_lr": [1e-3, 3e-3], "training.num_steps": [10, 20],
        "seed": [0, 1],
    }  # fmt: skip
    assert len(document["cells"]) == 16
    for row in document["cells"]:
        assert list(row["fields"]) == list(document["varies"])
        assert row["data_seen"] == 16 * row["fields"]["training.num_steps"]
        assert row["seed"] == row["fields"]["seed"]
    text = here("plan", "study.json").stdout
    assert len([line for line in text.splitlines() if line.startswith("net ")]) == 8
    told = text[text.index("varies:") :].splitlines()
    assert told[1:5] == [
        "  model.depth: 1, 2", "  training.optimizer.peak_lr: 0.001, 0.003", "  training.num_steps: 10, 20",
        "  seed: 0, 1",
    ]  # fmt: skip
    assert "m and D count examples" in text


def test_a_study_of_one_cell_has_nothing_that_varies(here):
    one = settings().series[0].cells[0]
    study = settings().model_copy(update={"series": (Series(label="net", cells=(one,)),)})
    (here.folder / "study.json").write_text(study.canonical_json())
    document = here.json("plan", "study.json")
    assert (document["varies"], [row["fields"] for row in document["cells"]]) == ({}, [{}])
    assert "nothing varies" in here("plan", "study.json").stdout


def test_text_is_counted_in_tokens_with_sequences_beside_them():
    data = DataSpec(source=TextSource(sequence_length=32), size=10, evaluation_size=10)
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), batch_size=2, num_steps=3)
    cell = Cell(model=TransformerSpec(width=12, depth=1), data=data, training=training)
    study = Study(name="text", question="?", metric="loss", series=(Series(label="a", cells=(cell,)),))
    rows = plan_cells(study, None)
    (row,) = summarise_plan(rows)
    assert (row["m"], row["m seq."], row["D"], row["D seq."]) == (320, 10, 192, 6)
    assert describe_variation(rows) == "m and D count tokens; beside them sequences, of 32 tokens\nnothing varies"
