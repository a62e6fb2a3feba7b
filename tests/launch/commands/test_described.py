"""Plans for devices that are not here: which cells are compiled, and what is said of them."""

import json

import pytest

from launch.cli import main
from launch.commands.plan import largest_cells
from scaling.specs.study import resolve_study


def study(tmp_path):
    file = tmp_path / "two.py"
    file.write_text(
        """
from scaling.specs.cell import *
from scaling.specs.data import *
from scaling.specs.models import *
from scaling.specs.study import *
from scaling.specs.schedules import *
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
        (["--execution", "mesh.data=3"], "--execution is how to run on a --topology; add that"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    assert main(["plan", study(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
