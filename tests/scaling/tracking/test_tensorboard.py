"""Claims about what TensorBoard shows, read by its own reader."""

import pytest

from scaling.tracking import make_tracker
from tests.told_runs import NUM_STEPS, estimators_of, make_store, networks_of, tell

pytest.importorskip("tensorboardX")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of protobuf and NumPy, in the reader


def read(folder):
    """Returns the scalars of a run's folder as {name: [(step, value)]}."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_a_run_that_went_on_from_a_checkpoint_has_every_step_once(tmp_path):
    store = make_store(tmp_path / "store")
    tracker, cell = make_tracker(["tensorboard"], store), networks_of(store)[0]
    tell(tracker, store, cell, stop=17)
    record = tell(tracker, store, cell, begin=10)
    scalars = read(tmp_path / "store" / "tensorboard" / "mlp" / cell)
    assert [step for step, _ in scalars["train/loss"]] == list(range(1, NUM_STEPS + 1))
    assert [step for step, _ in scalars["eval/loss"]] == [5, 10, 20, NUM_STEPS]
    assert scalars["eval/error"][-1][1] == pytest.approx(record.evaluations[-1].metrics["error"])
    assert [step for step, _ in scalars["train/steps_per_second"]] == list(range(5, NUM_STEPS + 1))


def test_models_without_steps_are_at_step_0(tmp_path):
    store = make_store(tmp_path / "store")
    cell = estimators_of(store)[0]
    tell(make_tracker(["tensorboard"], store), store, cell)
    assert list(read(tmp_path / "store" / "tensorboard" / "linear" / cell)) == ["eval/loss", "eval/error"]
