"""Learning-rate schedules: what may be asked for, and the shape of each over a run, for NumPy and JAX arrays alike."""

import abc
from typing import Annotated, Any, Literal, NamedTuple, assert_never

from pydantic import Field, PositiveInt

from scaling.specs.base import Fraction, Spec
from scaling.specs.code import CodeReference, FrozenSettings, Settings, resolve_function

# Where in a step its learning rate is read: in its middle, so that the first step already moves and the last is not
# wasted. Other people's curves may have it at its beginning, 0: over 20 steps that differs by up to 0.35 of the peak.
MIDDLE_OF_STEP = 0.5

Array = Any  # of NumPy or of JAX, traced or not

Decay = Literal["constant", "cosine", "linear", "one_minus_sqrt", "exponential", "step"]


class Horizon(NamedTuple):
    """How long a run is, as numbers or as array values, with which runs of every length share a program.

    Attributes:
      num_steps: the number of steps of the run.
      stable_steps: before its decay begins; only warm-up–stable–decay reads it.
    """

    num_steps: Array
    stable_steps: Array


def rise(done: Array, whole: float) -> Array:
    """Returns the factor on the peak during a linear warm-up: the share that is done of its whole, 1 after its end.

    Args:
      done: array of what is done of the warm-up, in the units of its whole.
      whole: the warm-up; 0 for none.
    """
    xp = done.__array_namespace__()
    return xp.minimum(1.0, done / whole) if whole else xp.ones_like(done)


def fall(decay: Decay, done: Array, final_fraction: float) -> Array:
    """Returns the factor on the peak during a decay that ends at `final_fraction` of it.

    Args:
      decay: the shape.
      done: array of the share of the decay that is done; below 0 before it begins, and above 1 after its end.
      final_fraction: the fraction of the peak where it ends; above 0 for `exponential`.
    """
    xp = done.__array_namespace__()
    within = xp.clip(done, 0.0, 1.0)
    match decay:
        case "constant":
            left = xp.ones_like(within)
        case "cosine":
            left = 0.5 * (1.0 + xp.cos(xp.pi * within))
        case "linear":
            left = 1.0 - within
        case "one_minus_sqrt":
            left = 1.0 - xp.sqrt(within)
        case "step":
            left = xp.where(done < 0.0, 1.0, 0.0)
        case "exponential":
            return final_fraction**within
        case _:
            assert_never(decay)
    return final_fraction + (1.0 - final_fraction) * left


class Schedule(Spec, abc.ABC):
    """A shape of the learning rate over a run. To add one: a class here, named in `ScheduleSpec`."""

    def horizon(self, num_steps: int) -> Horizon:
        """Returns the horizon of a run of so many steps."""
        return Horizon(num_steps, num_steps)

    @abc.abstractmethod
    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate.

        Args:
          time: array of times in steps from the beginning of the run; training reads step k at k + `MIDDLE_OF_STEP`.
          horizon: the horizon of the run.
        """


class ConstantSchedule(Schedule):
    """Linear warm-up to the peak learning rate, then constant."""

    kind: Literal["constant"] = "constant"
    warmup_fraction: Fraction = 0.0

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        return rise(time / horizon.num_steps, self.warmup_fraction)


class _Decaying(Schedule):
    """Linear warm-up, then down over all the rest of the run."""

    def _factor(self, decay: Decay, time: Array, horizon: Horizon, warmup: float, final_fraction: float) -> Array:
        progress = time / horizon.num_steps
        done = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else progress
        return rise(progress, warmup) * fall(decay, done, final_fraction)


class CosineSchedule(_Decaying):
    """Linear warm-up to the peak learning rate, then a half cosine down to `final_fraction` of it."""

    kind: Literal["cosine"] = "cosine"
    warmup_fraction: Fraction = 0.05
    final_fraction: Fraction = 0.0

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        return self._factor("cosine", time, horizon, self.warmup_fraction, self.final_fraction)


class LinearSchedule(_Decaying):
    """Linear warm-up to the peak learning rate, then a straight line down to `final_fraction` of it."""

    kind: Literal["linear"] = "linear"
    warmup_fraction: Fraction = 0.05
    final_fraction: Fraction = 0.0

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        return self._factor("linear", time, horizon, self.warmup_fraction, self.final_fraction)


class InverseSqrtSchedule(Schedule):
    """Linear warm-up over `warmup_steps`, then √(warmup_steps / step) (Vaswani et al. 2017); knows no horizon."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup_steps: PositiveInt

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        xp = time.__array_namespace__()
        return xp.minimum(time / self.warmup_steps, xp.sqrt(self.warmup_steps / time))


class WSDSchedule(Schedule):
    """Warm-up, stable, decay (Hu et al. 2024): constant at the peak until the last part of the run, then down.

    Until the decay begins, runs of every length are the same run. So cells that differ in `num_steps` alone are
    trained as branches of one trunk (Hägele et al. 2024), each with the result that it would have alone.

    Attributes:
      warmup_steps: the steps of the linear warm-up; counted in steps, so that it is the same for every length.
      decay_fraction: share of the run that the decay takes.
      decay: `linear`, or `one_minus_sqrt`: 1 - √(share of the decay that is done).
      final_fraction: the fraction of the peak where the decay ends.
    """

    kind: Literal["wsd"] = "wsd"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    decay: Literal["linear", "one_minus_sqrt"] = "one_minus_sqrt"
    final_fraction: Fraction = 0.0

    def decay_start(self, num_steps: int) -> int:
        """Returns how many steps of a run of this length come before the decay, which has at least one."""
        return num_steps - max(1, round(self.decay_fraction * num_steps))

    def horizon(self, num_steps: int) -> Horizon:
        """Returns the horizon of a run of so many steps."""
        return Horizon(num_steps, self.decay_start(num_steps))

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        done = (time - horizon.stable_steps) / (horizon.num_steps - horizon.stable_steps)
        return rise(time, self.warmup_steps) * fall(self.decay, done, self.final_fraction)


class CodeSchedule(Schedule):
    """A schedule of the user's own.

    Attributes:
      code: `name:function`: (time, num_steps, **settings) → the factor on the peak learning rate, an array like the
        time. Both count steps; operators work on them, and for functions there is `time.__array_namespace__()`.
      settings: further arguments of the function.
    """

    kind: Literal["code"] = "code"
    code: CodeReference
    settings: Settings = FrozenSettings()

    def factor(self, time: Array, horizon: Horizon) -> Array:
        """Returns the factor on the peak learning rate."""
        return resolve_function(self.code)(time, horizon.num_steps, **self.settings)


ScheduleSpec = Annotated[
    ConstantSchedule | CosineSchedule | LinearSchedule | InverseSqrtSchedule | WSDSchedule | CodeSchedule,
    Field(discriminator="kind"),
]
