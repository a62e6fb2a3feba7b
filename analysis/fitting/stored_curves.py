"""The loss curves of a store's runs, with the learning rates that were trained, as laws of whole curves take them."""

from __future__ import annotations

import numpy as np
from etils import epath

from analysis.errors import AnalysisError
from analysis.laws.law import Array
from analysis.laws.schedules import Curve
from scaling.specs.base import canonical_json, fingerprint_text, parse
from scaling.specs.cell import Cell
from scaling.specs.schedules import MIDDLE_OF_STEP
from scaling.specs.training import TrainingSpec
from scaling.store.curves import read_curve
from scaling.store.store import Store


def read_curves(store: str | epath.Path, *, target: str = "loss") -> list[Curve]:
    """Returns a curve for each run of a store that has points, ready for `fit_curves`.

    A curve is called by its series' label and its cell. Estimators have no steps, and a loss that is not finite is no
    point; runs without any are left out. After step k of training the loss stands at step k - 1 of the curve, whose
    steps are counted from 0: the area under the rate up to there is what the run has had.

    Args:
      store: The store's folder.
      target: `loss` of the evaluation set, or `train_loss`: means over stretches of the run, each at its last step.

    Raises:
      AnalysisError: if no run has a point, or the target is another.
      InputError: if there is no such store.
    """
    if target not in ("loss", "train_loss"):
        raise AnalysisError(f"target={target!r} is on no curve; choose 'loss' or 'train_loss'")
    opened, curves = Store.open(store), []
    for series in opened.study["series"]:
        for document in series["cells"]:
            text = canonical_json(document)
            cell, name = parse(Cell, text, "cell"), fingerprint_text(text)
            if cell.training is None:
                continue
            points = [
                (point["step"], point[target])
                for point in read_curve(opened.cell_path(name))
                if point["step"] and point.get(target) is not None
            ]
            if points:
                steps, losses = np.array(points, dtype=np.float64).T
                rates = trained_rates(cell.training)
                curves.append(Curve(rates, steps.astype(np.int64) - 1, losses, f"{series['label']} {name}"))
    if not curves:
        raise AnalysisError(f"store={str(store)!r} has no run with a finite {target}; train networks in it first")
    return curves


def trained_rates(training: TrainingSpec) -> Array:
    """Returns the learning rate `[num_steps]` of every step of a run, as it is trained.

    >>> from scaling.specs.schedules import LinearSchedule
    >>> from scaling.specs.training import SGDSpec
    >>> schedule = LinearSchedule(warmup_fraction=0.0)
    >>> trained_rates(TrainingSpec(optimizer=SGDSpec(peak_lr=1.0), schedule=schedule, num_steps=4)).tolist()
    [0.875, 0.625, 0.375, 0.125]
    """
    times = np.arange(training.num_steps, dtype=np.float64) + MIDDLE_OF_STEP
    schedule = training.schedule
    return training.optimizer.peak_lr * schedule.factor(times, schedule.horizon(training.num_steps))
