"""JAX's own flags, and absl's, on the command line of a process that trains by itself."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from launch.exits import WRONG_CALL


def run_with_flags(function: Callable[[list[str]], int], words: Sequence[str]) -> NoReturn:
    """Takes JAX's and absl's flags out of a command line, runs a function with what is left, and exits with its status.

    Either spelling of an option's name is read, `--num-checkpoints` and `--num_checkpoints`: absl knows the second, and
    people type both.

    Args:
      function: called with the words that are left, as argparse takes them.
      words: the words of the command line.
    """
    from absl import app, flags

    def take(arguments: list[str]) -> list[str]:
        try:
            _, *left = flags.FLAGS(arguments, known_only=True)
        except flags.Error as error:
            print(f"scaling: {error}", file=sys.stderr)
            sys.exit(WRONG_CALL)
        return left

    _define_jax_flags()
    app.run(
        lambda left: function([_spell(word, "_", "-") for word in left]),
        argv=["scaling", *(_spell(word, "-", "_") for word in words)],
        flags_parser=take,
    )
    raise AssertionError("absl exits")


@functools.cache  # absl refuses a flag that is defined twice
def _define_jax_flags() -> None:
    import jax

    jax.config.config_with_absl()


def _spell(word: str, before: str, after: str) -> str:
    """Returns a word with one character of its option's name replaced; values stay."""
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace(before, after) + equals + value if word.startswith("--") else word
