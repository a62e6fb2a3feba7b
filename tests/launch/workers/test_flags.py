"""Command lines of processes that train: JAX takes its flags, in either spelling, and leaves the rest as it was."""

import jax
import pytest
from absl import flags

from launch.workers.flags import run_with_flags


@pytest.fixture
def left_by():
    """Returns the words that are left for the command; JAX's flags are as they were afterwards."""
    before = jax.config.jax_debug_nans

    def run(*words: str, status: int = 0) -> list[str]:
        found: list[list[str]] = []
        with pytest.raises(SystemExit) as stop:
            run_with_flags(lambda left: found.append(left) or status, words)
        assert stop.value.code == status
        return found[0] if found else []

    yield run
    jax.config.update("jax_debug_nans", before)
    flags.FLAGS["jax_debug_nans"].value = before


@pytest.mark.parametrize("flag", ["--jax_debug_nans", "--jax-debug-nans", "--jax_debug_nans=true"])
def test_jax_takes_its_flags_wherever_they_stand(left_by, flag):
    words = ("cell", "a_cell.json", "--store", "my_store")
    assert left_by(words[0], flag, *words[1:]) == list(words)
    assert flags.FLAGS["jax_debug_nans"].value is True


def test_our_own_options_are_spelt_with_hyphens_and_their_values_stay(left_by):
    assert left_by("cell", "--num_checkpoints=2", "--checkpoint_seconds", "0", "--store=my_store", "--x-y=a_b") == [
        "cell", "--num-checkpoints=2", "--checkpoint-seconds", "0", "--store=my_store", "--x-y=a_b",
    ]  # fmt: skip


def test_the_commands_status_is_the_processs(left_by):
    assert left_by("cell", status=75) == ["cell"]


def test_a_flag_of_jax_that_is_no_flag_value_is_one_line(left_by, capsys):
    assert left_by("cell", "--jax_debug_nans=perhaps", status=2) == []
    assert "perhaps" in capsys.readouterr().err
