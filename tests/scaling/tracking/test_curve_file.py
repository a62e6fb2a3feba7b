"""The ledger of runs that go on: read without its torn end, and rewound to where a run goes on from."""

from etils import epath

from scaling.store.curves import read_curve
from scaling.tracking import CurveFile


def test_a_run_that_goes_on_keeps_the_lines_before_and_one_that_begins_keeps_none(tmp_path):
    curves = CurveFile(lambda cell: epath.Path(tmp_path / cell))
    curves.begin("a", 0)
    curves.log("a", [{"step": step, "train_loss": 1.0 / step} for step in range(1, 6)])
    with (tmp_path / "a" / "curve.jsonl").open("a") as file:
        file.write('{"step": 6, "tra')
    curves.begin("a", 3)
    assert [point["step"] for point in read_curve(tmp_path / "a")] == [1, 2, 3]
    curves.log("a", [{"step": 4, "train_loss": 0.5}])
    assert [point["step"] for point in read_curve(tmp_path / "a")] == [1, 2, 3, 4]
    curves.begin("a", 0)
    assert read_curve(tmp_path / "a") == []


def test_a_model_without_steps_has_its_one_point(tmp_path):
    curves = CurveFile(lambda cell: epath.Path(tmp_path / cell))
    curves.begin("a", 0)
    curves.log("a", [{"step": None, "data_seen": 10, "loss": 0.5}])
    assert read_curve(tmp_path / "a") == [{"step": None, "data_seen": 10, "loss": 0.5}]
