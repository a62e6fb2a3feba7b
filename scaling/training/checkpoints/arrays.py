"""Trees of arrays as flat leaves with names, so that what is stored depends on no Python class."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.specs.base import InputError, Json


class StoredLeaf(NamedTuple):
    """A leaf as it goes to disk: a typed key as its words, all else as it is."""

    data: jax.Array | np.ndarray
    shape: tuple[int, ...]
    dtype: str
    key_kind: str | None

    @classmethod
    def of(cls, name: str, leaf: Any) -> "StoredLeaf":
        """Returns what to store for a leaf.

        Raises:
          InputError: the leaf is no array or number, or the processes may hold it differently.
        """
        if isinstance(leaf, jax.Array):
            if jax.process_count() > 1 and leaf.is_fully_addressable:
                raise InputError(
                    f"arrays[{name!r}] is held by one process alone, so it may differ between them; place it on the "
                    "mesh of all processes, or give it as a NumPy array, of which the first process's is kept"
                )
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                kind = str(jax.random.key_impl(leaf))
                return cls(jax.random.key_data(leaf), leaf.shape, str(leaf.dtype), kind)
            return cls(leaf, leaf.shape, str(leaf.dtype), None)
        array = np.asarray(leaf)
        if array.dtype.kind in "OSUMm":
            raise InputError(f"arrays[{name!r}]={leaf!r} is neither array nor number; put it among the facts")
        return cls(array, array.shape, str(array.dtype), None)

    def describe(self) -> Json:
        """Returns what the manifest says of this leaf."""
        return {"shape": list(self.shape), "dtype": self.dtype, "key_kind": self.key_kind}


def named_leaves(tree: Any) -> Json:
    """Returns the leaves of a tree by their path.

    >>> named_leaves({"layers": [1.0, {"bias": 2.0}], "state": None})
    {'layers/0': 1.0, 'layers/1/bias': 2.0}

    Raises:
      InputError: two leaves have the same path.
    """
    leaves: Json = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in leaves:
            raise InputError(f"arrays holds two leaves at the path {name!r}; rename one of them")
        leaves[name] = leaf
    return leaves


def describe_leaf(leaf: Any) -> Json:
    """Returns shape and dtype of a leaf of `like`, as a manifest has them."""
    leaf = leaf if hasattr(leaf, "shape") and hasattr(leaf, "dtype") else np.asarray(leaf)
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def say_leaf(described: Json | None) -> str:
    """Returns a described leaf in words.

    >>> say_leaf({"shape": [2, 3], "dtype": "float32"})
    'float32[2, 3]'
    """
    return "nothing" if described is None else f"{described['dtype']}{described['shape']}"


def as_wanted(array: Any, stored: Json, leaf: Any) -> Any:
    """Returns an array that was read, None if it is empty and so was not written, as a leaf of `like` asks for it."""
    if array is None:
        array = np.zeros(stored["shape"], stored["dtype"])
        if (sharding := getattr(leaf, "sharding", None)) is not None:
            return jax.device_put(array, sharding)
    if stored["key_kind"] is not None:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=stored["key_kind"])
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jnp.asarray(array)
    return array.item() if type(leaf) in (bool, int, float) else array
