"""Options of JAX and of XLA, which come and go with their versions: what is not known here is left out."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax

# As old as XLA: nobody needs to ask whether it is known, which compiles a program.
UNOPTIMISED: dict[str, bool | int] = {"xla_backend_optimization_level": 0}


def configure(**options: bool | float | str) -> set[str]:
    """Sets options of JAX for this process, and returns the names of those that this JAX knows."""
    known = set()
    for name, value in options.items():
        try:
            jax.config.update(name, value)
        except AttributeError:  # how JAX says that it has no such option
            continue
        known.add(name)
    return known


def compile_lightly(
    function: Callable[..., Any], options: Mapping[str, bool | int] | None = None, **how: Any
) -> Callable[..., Any]:
    """Returns a function as one compiled call, hardly optimised on CPUs: for programs that run once or twice.

    For initial values, say: optimising those of twenty matrices takes ten seconds, where running takes milliseconds
    either way.

    Args:
      function: pure.
      options: the options of XLA, used on CPUs alone; None is optimisation level 0.
      how: options of `jax.jit`.
    """
    if jax.default_backend() != "cpu":
        return jax.jit(function, **how)
    known = UNOPTIMISED if options is None else {name: each for name, each in options.items() if _is_known(name, each)}
    return jax.jit(function, compiler_options=known or None, **how)


@cache
def _is_known(name: str, value: bool | int) -> bool:
    """Returns whether XLA takes an option for a program, which it says when it compiles one: here in 20 ms, once."""
    option: dict[str, Any] = {name: value}
    try:
        jax.jit(lambda: 0).lower().compile(option)
    except jax.errors.JaxRuntimeError:
        return False
    return True
