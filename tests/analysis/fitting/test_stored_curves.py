"""Claims about curves from a store: they have the rates that training computes, and laws of whole curves take them."""

import jax.numpy as jnp
import numpy as np
import pytest

from analysis.errors import AnalysisError
from analysis.fitting.stored_curves import read_curves, trained_rates
from analysis.laws.registry import get_law
from analysis.laws.schedules import make_rates
from scaling.learning.step import make_hyper
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import LogisticRegressionSpec, MLPSpec
from scaling.specs.schedules import MIDDLE_OF_STEP, CosineSchedule, WSDSchedule
from scaling.specs.study import Series, Study
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.store import Store
from scaling.tracking.curve_file import CurveFile

DATA = DataSpec(source=DigitsSource(), size=100)
TRAINING = TrainingSpec(optimizer=AdamWSpec(peak_lr=3e-3), schedule=CosineSchedule(), num_steps=20, batch_size=8)


def make_store(path, *cells: Cell) -> Store:
    study = Study(name="curves", question="?", metric="loss", series=(Series(label="nets", cells=cells),))
    store = Store(path)
    store.create(study.canonical_json())
    return store


@pytest.mark.parametrize("schedule", [CosineSchedule(final_fraction=0.1), WSDSchedule(warmup_steps=3)])
def test_rates_are_those_that_training_multiplies_by(schedule):
    training = TRAINING.model_copy(update={"schedule": schedule})
    hyper = make_hyper(training, 100, 0)
    steps = [jnp.int32(step) for step in range(training.num_steps)]
    ours = [float(hyper.peak_lr * schedule.factor(step + MIDDLE_OF_STEP, hyper.horizon)) for step in steps]
    np.testing.assert_allclose(trained_rates(training), ours, rtol=1e-6)


def test_a_rate_at_the_beginning_of_a_step_is_another_than_in_its_middle():
    ends = {"peak": 1.0, "warmup_steps": 2, "end": 0.0}
    early, middle = (make_rates("one_minus_sqrt", 20, stable_steps=18, time=time, **ends) for time in (0.0, 0.5))
    assert np.abs(early - middle).max() == pytest.approx(0.5)
    assert np.abs(early - middle)[3:17].max() == 0.0
    with pytest.raises(AnalysisError, match=r"time=1.0 must be in \[0, 1\)"):
        make_rates("linear", 20, peak=1.0, time=1.0)


def test_curves_of_a_store_stand_under_the_rates_that_were_trained(tmp_path):
    net = Cell(model=MLPSpec(width=8), data=DATA, training=TRAINING)
    other, linear = net.model_copy(update={"seed": 1}), Cell(model=LogisticRegressionSpec(), data=DATA)
    store = make_store(tmp_path / "store", net, other, linear)
    tracker = CurveFile(store.cell_path)
    for cell in (net, other, linear):
        tracker.begin(cell.fingerprint(), 0)
    points = [
        {"step": 5, "train_loss": 2.5},
        {"step": 5, "loss": 2.0, "metrics": {}},
        {"step": 10, "train_loss": None},
        {"step": 20, "loss": 1.0},
    ]
    tracker.log(net.fingerprint(), points)
    tracker.log(linear.fingerprint(), [{"step": None, "loss": 1.0}])
    (curve,) = read_curves(store.path)
    assert curve.steps.tolist() == [4, 19]
    assert curve.loss.tolist() == [2.0, 1.0]
    assert curve.name == f"nets {net.fingerprint()}"
    np.testing.assert_array_equal(curve.rates, trained_rates(TRAINING))
    (curve,) = read_curves(store.path, target="train_loss")
    assert curve.steps.tolist() == [4]
    tissue = get_law("tissue")
    assert np.isfinite(tissue.predict(tissue.example, {"schedule": curve})).all()
    with pytest.raises(AnalysisError, match="target='error' is on no curve"):
        read_curves(store.path, target="error")


def test_a_store_without_curves_is_told(tmp_path):
    store = make_store(tmp_path / "store", Cell(model=LogisticRegressionSpec(), data=DATA))
    with pytest.raises(AnalysisError, match="has no run with a finite loss; train networks"):
        read_curves(store.path)
