"""What a forward pass shares: keys that follow paths, dropout in training alone, and when blocks are computed again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.modules.context import Context
from scaling.specs.execution import Execution


def bits(key):
    return jax.random.key_data(key).tolist()


def test_keys_follow_the_path_inside_a_copy_and_not_the_copy():
    context = Context(train=True, key=jax.random.key(0), root="/blocks/block_1")
    other = Context(train=True, key=jax.random.key(0), root="/blocks/block_2")
    assert bits(context.key_at("/blocks/block_1/drop")) == bits(other.key_at("/blocks/block_2/drop"))
    assert bits(context.key_at("/blocks/block_1/drop")) != bits(context.key_at("/blocks/block_1/more"))
    assert Context(train=False, key=None).key_at("/anything") is None


def test_dropout_zeroes_its_share_and_keeps_the_mean_in_training_alone():
    x = jnp.ones((100, 100))
    dropped = np.asarray(Context(train=True, key=jax.random.key(0)).drop(x, 0.25, "/drop"))
    assert float((dropped == 0).mean()) == pytest.approx(0.25, abs=0.02)
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert Context(train=False, key=None).drop(x, 0.25, "/drop") is x
    assert Context(train=True, key=None).drop(x, 0.0, "/drop") is x


def test_only_who_asks_for_taps_is_given_them():
    x, taps = jnp.ones(2), {}
    Context(train=False, key=None, taps=taps).tap("/layer", x)
    Context(train=False, key=None).tap("/layer", x)
    assert list(taps) == ["/layer"]


def test_a_block_is_computed_again_as_a_whole_unless_its_insides_are_asked_for():
    again = Execution(remat="full")
    assert Context(train=True, key=None, execution=again).computes_again
    assert not Context(train=True, key=None).computes_again
    assert not Context(train=True, key=None, execution=again, in_block=True).computes_again
    assert not Context(train=True, key=None, execution=again, taps={}).computes_again
