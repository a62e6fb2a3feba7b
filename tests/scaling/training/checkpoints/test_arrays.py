"""Claims about stored leaves: names are paths, typed keys go as words, and what is read becomes what was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.specs.base import InputError
from scaling.training.checkpoints.arrays import StoredLeaf, as_wanted, describe_leaf, named_leaves


def test_a_typed_key_goes_as_its_words_and_comes_back_as_a_key():
    key = jax.random.key(7)
    stored = StoredLeaf.of("key", key)
    assert stored.data.dtype == np.uint32
    back = as_wanted(stored.data, stored.describe(), key)
    assert jax.random.normal(back) == jax.random.normal(key)


@pytest.mark.parametrize("leaf", [3, 2.5, True, np.float32(1.5)])
def test_numbers_come_back_as_what_they_were(leaf):
    stored = StoredLeaf.of("number", leaf)
    back = as_wanted(stored.data, stored.describe(), leaf)
    assert back == leaf
    assert type(back) is type(leaf) or isinstance(back, np.ndarray)


def test_an_empty_array_that_was_not_written_is_made():
    empty = jnp.zeros((0, 3), jnp.bfloat16)
    back = as_wanted(None, StoredLeaf.of("empty", empty).describe(), empty)
    assert (back.shape, back.dtype) == ((0, 3), jnp.bfloat16)


def test_what_is_no_array_is_refused_by_name():
    with pytest.raises(InputError, match=r"arrays\['words'\]='x' is neither array nor number"):
        StoredLeaf.of("words", "x")
    with pytest.raises(InputError, match="two leaves at the path 'a/b'"):
        named_leaves({"a": {"b": 1}, "a/b": 2})


def test_a_leaf_is_described_as_its_manifest_says():
    assert describe_leaf(jax.ShapeDtypeStruct((2, 3), jnp.float32)) == {"shape": [2, 3], "dtype": "float32"}
    assert describe_leaf(1.0) == {"shape": [], "dtype": "float64"}
