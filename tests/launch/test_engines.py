"""Engines by name: their settings are checked, what is given is kept, and what only a store knows needs one."""

import pytest

from launch.engines import EngineError, ask_for, connect, find_anywhere, reconnect
from launch.engines.slurm import Settings
from scaling.specs.base import InputError


def refusing_after(count: int):
    handles = iter(range(count))

    def ask() -> str:
        handle = next(handles, None)
        if handle is None:
            raise EngineError("nothing left")
        return str(handle)

    return ask


def test_what_was_given_is_kept_where_the_next_is_refused():
    assert ask_for(3, refusing_after(5)) == ["0", "1", "2"]
    assert ask_for(3, refusing_after(2)) == ["0", "1"]
    with pytest.raises(EngineError, match="nothing left"):
        ask_for(3, refusing_after(0))


@pytest.mark.parametrize("assignment", ["partitoin=gpu", "nodes=0"])
def test_a_wrong_setting_is_refused_as_an_option(bare_store, assignment):
    with pytest.raises(InputError, match=f"--option {assignment}") as refusal:
        connect("slurm", [assignment], bare_store)
    assert "--set" not in str(refusal.value)


def test_an_engine_is_found_again_by_the_settings_that_a_launch_keeps(bare_store, monkeypatch):
    monkeypatch.setattr("launch.engines.slurm.shutil.which", lambda _: "/bin/sbatch")
    settings = Settings(partition="gpu", sbatch=("--exclusive",))
    engine = reconnect("slurm", settings.model_dump(mode="json"), bare_store)
    assert engine._settings == settings


def test_an_engine_that_knows_its_allocations_from_a_store_needs_one():
    with pytest.raises(InputError, match="--engine local knows its allocations from a store alone; give STORE"):
        find_anywhere("local", [])
