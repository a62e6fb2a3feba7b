"""Claims about verdicts: losses and metrics of one network or of many."""

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.data.loading import load_source
from scaling.learning.step import Monitor
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.training import SGDSpec, TrainingSpec
from scaling.training.evaluate import Verdict, log_loss, noise_scales


def test_unseen_classes_have_nolog_loss():
    source = load_source(DataSpec(source=DigitsSource(), size=1, evaluation_size=400))
    uniform = np.full((400, 10), 0.1)
    assert log_loss(uniform, np.arange(10), source) == pytest.approx(np.log(10))
    assert log_loss(uniform[:, :9], np.arange(9), source) is None
    certain = np.eye(10)[(source.eval_labels + 1) % 10]
    assert log_loss(certain, np.arange(10), source) is None


def test_more_metrics_join_a_verdict_that_has_a_loss_and_no_other():
    verdict = Verdict(2.0, {"error": 0.5})
    assert verdict.joined({"train_loss": 3.0}) == (2.0, {"error": 0.5, "train_loss": 3.0})
    assert verdict.named("ema") == {"ema_loss": 2.0, "ema_error": 0.5}
    lost = Verdict(None, {})
    assert lost.joined({"train_loss": 3.0}) == (None, {})
    assert lost.named("ema") == {}


def test_the_noise_scale_is_told_of_members_whose_estimates_are_positive():
    zero = jnp.zeros(3)
    monitor = Monitor(zero, zero, zero, noise=jnp.array([4.0, -1.0, 1.0]), signal=jnp.array([2.0, 1.0, 0.0]))
    training = TrainingSpec(optimizer=SGDSpec(peak_lr=1.0), batch_size=32, num_steps=1, noise_scale_parts=2)
    assert noise_scales(monitor, training) == [{"noise_scale": 64.0}, {}, {}]
    assert noise_scales(monitor, training.model_copy(update={"noise_scale_parts": None})) is None
