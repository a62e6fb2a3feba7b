"""Training: what a schedule, batches and steps cannot be together, and what came later leaves old cells alone."""

import pytest

from scaling.specs.base import InputError, parse
from scaling.specs.schedules import WSDSchedule
from scaling.specs.training import AdamWSpec, SGDSpec, TrainingSpec

ADAMW = AdamWSpec(peak_lr=0.01)


def test_an_old_run_is_written_as_the_first_release_wrote_it():
    assert TrainingSpec(optimizer=SGDSpec(peak_lr=0.5), num_steps=10).canonical_json() == (
        '{"batch_size":128,"num_evaluations":5,"num_steps":10,'
        '"optimizer":{"kind":"sgd","momentum":0.9,"peak_lr":0.5,"weight_decay":0.0},'
        '"schedule":{"final_fraction":0.0,"kind":"cosine","warmup_fraction":0.05}}'
    )


@pytest.mark.parametrize(
    ("fraction", "num_steps", "start"), [(0.2, 100, 80), (0.2, 3, 2), (0.01, 10, 9), (1.0, 10, 0), (0.5, 1, 0)]
)
def test_a_decay_has_its_share_of_the_run_and_a_step_at_least(fraction, num_steps, start):
    assert WSDSchedule(decay_fraction=fraction).decay_start(num_steps) == start


def test_a_warmup_that_goes_on_into_the_decay_is_refused():
    schedule = WSDSchedule(warmup_steps=80, decay_fraction=0.2)
    assert TrainingSpec(optimizer=ADAMW, schedule=schedule, num_steps=100).schedule == schedule
    with pytest.raises(
        ValueError, match=r"warmup_steps=80 go on after step 79, where the decay of num_steps=99 begins"
    ):
        TrainingSpec(optimizer=ADAMW, schedule=schedule, num_steps=99)


def test_a_run_sees_fewer_examples_than_32_bits_count():
    assert TrainingSpec(optimizer=ADAMW, num_steps=2**16 - 1, batch_size=2**16).num_steps == 2**16 - 1
    with pytest.raises(ValueError, match="see 4294967296 examples; choose fewer than"):
        TrainingSpec(optimizer=ADAMW, num_steps=2**16, batch_size=2**16)


def test_parts_for_the_noise_scale_divide_the_batch():
    assert TrainingSpec(optimizer=ADAMW, num_steps=1, batch_size=12, noise_scale_parts=4).noise_scale_parts == 4
    with pytest.raises(ValueError, match="noise_scale_parts=5 does not divide batch_size=12; choose a divisor"):
        TrainingSpec(optimizer=ADAMW, num_steps=1, batch_size=12, noise_scale_parts=5)


def test_nesterov_without_momentum_is_refused():
    assert SGDSpec(peak_lr=0.1, nesterov=True).nesterov
    with pytest.raises(ValueError, match=r"nesterov=true has no effect with momentum=0\.0; set momentum, or leave"):
        SGDSpec(peak_lr=0.1, momentum=0.0, nesterov=True)


def test_a_rule_or_a_schedule_that_is_unknown_is_refused_with_the_nearest():
    for text, nearest in (
        ('{"num_steps": 1, "optimizer": {"kind": "adamv", "peak_lr": 0.1}}', "did you mean 'adam"),
        ('{"num_steps": 1, "optimizer": {"kind": "sgd", "peak_lr": 0.1}, "schedule": {"kind": "cosin"}}', "'cosine'"),
    ):
        with pytest.raises(InputError, match=nearest):
            parse(TrainingSpec, text, "here")
