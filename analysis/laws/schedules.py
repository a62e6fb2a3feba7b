"""Learning-rate schedules step by step, and the few sums of each that laws of the whole loss curve need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from analysis.errors import AnalysisError, suggest_name
from analysis.laws.law import Array
from scaling.specs.schedules import Decay, fall, rise

# Steps whose distance to a point, or whose rate, differ by less than this factor e^0.25 share one node: on the nine
# schedules of Luo et al. no point's loss moves by 1e-4 nats (a test measures it), the last printed digit.
FINENESS = 0.25
SMALL = 4.0  # rates below e^-4 of the peak share one node: their increments are 2 % of the warm-up


def make_rates(
    decay: Decay,
    num_steps: int,
    *,
    peak: float,
    end: float = 0.0,
    warmup_steps: int = 0,
    stable_steps: int | None = None,
    time: float = 0.0,
) -> Array:
    """Returns the learning rate `[num_steps]` of every step, counted from 0: linear warm-up, plateau, decay.

    Args:
      decay: `constant`; `cosine` and the others fall from `peak` to `end`; `step` falls at once.
      num_steps: Steps of the run.
      peak: Largest rate.
      end: Rate that the decay would reach at step `num_steps`.
      warmup_steps: Step at which the rate first is `peak`; 0 starts there.
      stable_steps: Step at which the decay begins; at the end of the warm-up by default.
      time: Where in a step its rate is read: at its beginning, 0, as in Luo et al., or in its middle, 0.5, as in the
        runs of this framework.

    Raises:
      AnalysisError: on an unknown decay, a time outside a step, or steps and rates out of order.

    >>> make_rates("linear", 6, peak=4.0, end=0.0, warmup_steps=2).tolist()
    [0.0, 2.0, 4.0, 3.0, 2.0, 1.0]
    """
    if decay not in get_args(Decay):
        raise suggest_name("decay", decay, get_args(Decay))
    if not 0.0 <= time < 1.0:
        raise AnalysisError(f"time={time} must be in [0, 1), a place within a step; give 0 or 0.5")
    begin = warmup_steps if stable_steps is None else stable_steps
    if not 0 <= warmup_steps <= begin < num_steps:
        raise AnalysisError(
            f"warmup_steps={warmup_steps}, stable_steps={begin}, num_steps={num_steps} must be in that order, from 0; "
            "give the steps at which warm-up and plateau end"
        )
    lowest = end > 0 if decay == "exponential" else end >= 0
    if not (lowest and end <= peak and 0 < peak < np.inf):
        raise AnalysisError(
            f"peak={peak}, end={end} must be positive rates with end at most peak (0 only where the decay reaches it)"
        )
    when = np.arange(num_steps, dtype=np.float64) + time
    return peak * rise(when, warmup_steps) * fall(decay, (when - begin) / (num_steps - begin), end / peak)


@dataclass(frozen=True, eq=False)
class Curve:
    """One run's loss curve under its schedule.

    Attributes:
      rates: Learning rate of every step from the first on, warm-up included, `[T]`.
      steps: Steps at which the loss is known or wanted, counted from 0 and below T, `[n]`.
      loss: Loss at those steps, `[n]`; None for a prediction.
      name: What the run is called.
    """

    rates: Array
    steps: Array
    loss: Array | None = None
    name: str = "curve"

    def __post_init__(self) -> None:
        rates, steps = np.asarray(self.rates, dtype=np.float64), np.asarray(self.steps)
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "steps", steps.astype(np.int64))
        bad = ~(np.isfinite(rates) & (rates >= 0))
        if rates.ndim != 1 or bad.any() or not rates.any():
            found = rates[bad][0] if bad.any() else f"shape {rates.shape}"
            raise AnalysisError(f"{self.name}: rates={found} must be one finite rate, 0 or more, for every step")
        if steps.ndim != 1 or not len(steps) or steps.min() < 0 or steps.max() >= len(rates):
            raise AnalysisError(
                f"{self.name}: steps must lie in [0, {len(rates)}), the steps that rates cover; give the schedule up "
                "to the last logged step, counted from 0"
            )
        if not rates[: int(steps.min()) + 1].any():
            raise AnalysisError(
                f"{self.name}: the rate is 0 up to step {steps.min()}, where these laws are infinite; drop that point"
            )
        if self.loss is not None:
            object.__setattr__(self, "loss", np.asarray(self.loss, dtype=np.float64))
            if self.loss.shape != steps.shape:
                raise AnalysisError(
                    f"{self.name}: loss has shape {self.loss.shape} but steps have {steps.shape}; give one loss a step"
                )


@dataclass(frozen=True, eq=False)
class Progress:
    """What curve laws see of n points: the area under the rate, and the drops of the rate before each point.

    A point has nodes, each the sum of neighbouring steps' drops; the nodes of all points lie one after the other.

    Attributes:
      area: S1, the sum of the rates up to each point and with it, `[n]`.
      first: Place of each point's first node, `[n]`.
      drop: Fall of the rate `eta_(k-1) - eta_k`, summed over the node's steps; negative in a warm-up, `[M]`.
      log_rate: Logarithm of the rate after the drop, `[M]`.
      log_area: Logarithm of the sum of the rates from the drop on to the point, `[M]`.
      age: Steps from the drop on to the point, both counted, `[M]`.
    """

    area: Array
    first: Array
    drop: Array
    log_rate: Array
    log_area: Array
    age: Array

    @property
    def shape(self) -> tuple[int]:
        """Returns `(n,)`, as an array of the points would."""
        return (len(self.area),)


def summarise_schedules(curves: Iterable[Curve], *, fineness: float = FINENESS) -> Progress:
    """Returns the `Progress` of all points of the curves, one curve after the other.

    Drops of one sign are summed into a node as long as their distance to the point (in area) and their rate change by
    less than a factor `e^fineness`. A node stands at the mean place and rate of its drops, so what is lost is of second
    order. The cost of a law is then some 30 nodes a point instead of ten thousands of steps.

    Args:
      curves: The runs.
      fineness: Logarithm of the factor; 0 keeps every step.

    >>> run = Curve(np.array([0.0, 2.0, 2.0, 1.0, 1.0]), np.array([2, 4]))
    >>> at = summarise_schedules([run])
    >>> at.area.tolist(), at.first.tolist(), at.drop.tolist(), at.age.tolist()
    ([4.0, 6.0], [0, 1], [-2.0, -2.0, 1.0], [2.0, 4.0, 2.0])
    """
    area, count, parts = [], [], []
    for curve in curves:
        rates = curve.rates
        total = np.cumsum(rates)
        drop = np.r_[0.0, rates[:-1] - rates[1:]]
        before = total - rates  # area before each step: what is not between the drop and the point
        sums = [
            np.r_[0.0, np.cumsum(drop * item)] for item in (1.0, before, rates, np.arange(len(rates), dtype=np.float64))
        ]
        fixed = _find_breaks(rates, drop, fineness)
        for step in curve.steps.tolist():
            edges = fixed[fixed <= step]
            if fineness:
                reach = total[step] * np.exp(-fineness * np.arange(1, np.log(1e9) / fineness))
                near = np.searchsorted(before[: step + 1], total[step] - reach)
                edges = np.union1d(edges, near[near <= step])
            edges = np.r_[edges, step + 1]
            whole, place, rate, when = (np.diff(item[edges]) for item in sums)
            kept = np.abs(whole) > 1e-13 * rates.max()
            if not kept.any():  # every point needs a node
                kept[-1], whole[-1], place[-1], rate[-1], when[-1] = True, 1.0, before[step], rates[step], step
                size = np.zeros(1)
            else:
                size = whole[kept]
            whole, place, rate, when = whole[kept], place[kept], rate[kept], when[kept]
            with np.errstate(divide="ignore"):
                tiny = np.finfo(np.float64).tiny
                parts.append(
                    np.stack(
                        [
                            size,
                            np.log(np.maximum(rate / whole, tiny)),
                            np.log(np.maximum(total[step] - place / whole, tiny)),
                            step + 1 - when / whole,
                        ]
                    )
                )
            area.append(total[step])
            count.append(len(size))
    if not parts:
        raise AnalysisError("curves=[] has no points; give at least one curve with steps")
    drop, log_rate, log_area, age = np.concatenate(parts, axis=1)
    return Progress(np.array(area), np.r_[0, np.cumsum(count)[:-1]], drop, log_rate, log_area, age)


def _find_breaks(rates: Array, drop: Array, fineness: float) -> Array:
    """Returns the steps at which a node must begin for every point: another sign of the drop, or another rate."""
    if not fineness:
        return np.arange(len(rates))
    level = np.floor(np.log(np.maximum(rates / rates.max(), np.exp(-SMALL))) / fineness)
    sign = np.sign(drop)
    moving = np.flatnonzero(sign)
    held = np.zeros(len(rates), dtype=np.int64)  # a plateau belongs to the drop before it
    held[moving] = moving
    held = np.maximum.accumulate(held)
    changed = (sign[held][1:] != sign[held][:-1]) | (level[held][1:] != level[held][:-1])
    return np.r_[0, 1 + np.flatnonzero(changed)]
