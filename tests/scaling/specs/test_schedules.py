"""Claims about schedules: where they rise, stay and end, alike in NumPy and in JAX."""

from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.learning.step import horizon_of
from scaling.specs.schedules import (
    ConstantSchedule,
    CosineSchedule,
    Decay,
    InverseSqrtSchedule,
    LinearSchedule,
    Schedule,
    ScheduleSpec,
    WSDSchedule,
    fall,
)
from scaling.specs.training import AdamWSpec, TrainingSpec


def factors(spec: ScheduleSpec, num_steps: int, times: list[float]) -> list[float]:
    schedule, horizon = spec.factor, horizon_of(spec, num_steps)
    return [float(schedule(jnp.float32(time), horizon)) for time in times]


def test_schedules_rise_to_one_and_end_where_they_say():
    times = [0.0, 5.0, 10.0, 55.0, 100.0]
    cosine = CosineSchedule(warmup_fraction=0.1, final_fraction=0.2)
    assert factors(cosine, 100, times) == pytest.approx([0, 0.5, 1.0, 0.6, 0.2])
    linear = LinearSchedule(warmup_fraction=0.1, final_fraction=0.2)
    assert factors(linear, 100, [0.0, 10.0, 55.0, 77.5, 100.0]) == pytest.approx([0, 1.0, 0.6, 0.4, 0.2])
    assert factors(ConstantSchedule(), 100, [0.0, 100.0]) == [1.0, 1.0]
    assert factors(InverseSqrtSchedule(warmup_steps=10), 100, [5.0, 10.0, 40.0]) == pytest.approx([0.5, 1.0, 0.5])


def test_warmup_stable_decay_is_flat_until_its_cooldown_for_every_length():
    spec = WSDSchedule(warmup_steps=10, decay_fraction=0.2, decay="linear", final_fraction=0.1)
    assert factors(spec, 100, [5.0, 10.0, 80.0, 90.0, 100.0]) == pytest.approx([0.5, 1.0, 1.0, 0.55, 0.1])
    assert factors(spec, 1000, [5.0, 10.0, 80.0, 800.0, 900.0]) == pytest.approx([0.5, 1.0, 1.0, 1.0, 0.55])
    root = WSDSchedule(decay="one_minus_sqrt")
    assert factors(root, 100, [80.0, 85.0, 100.0]) == pytest.approx([1.0, 0.5, 0.0])


def test_a_decay_that_begins_before_warm_up_ends_is_refused():
    with pytest.raises(ValueError, match=r"warmup_steps=90 go on after step 80"):
        TrainingSpec(optimizer=AdamWSpec(peak_lr=1.0), schedule=WSDSchedule(warmup_steps=90), num_steps=100)


@pytest.mark.parametrize("decay", get_args(Decay))
def test_shapes_are_the_same_in_numpy_and_in_jax(decay):
    done = np.linspace(-0.5, 1.5, 21)
    ours, theirs = (fall(decay, array, 0.1) for array in (done, jnp.asarray(done, jnp.float32)))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert fall(decay, np.array([-0.1]), 0.1)[0] == 1.0
    assert fall(decay, np.array([1.1]), 0.1)[0] == pytest.approx(1.0 if decay == "constant" else 0.1)


def test_a_schedule_without_its_shape_cannot_be_made():
    class Shapeless(Schedule):
        """Forgets its factor."""

    with pytest.raises(TypeError, match="abstract"):
        Shapeless()
