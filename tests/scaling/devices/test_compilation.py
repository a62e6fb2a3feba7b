"""The compilation cache: quiet, the same bits, and a folder for each kind of machine."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from scaling.devices import compilation

SCRIPT = """
import jax
from scaling.devices import compilation
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training.runner import train_cell

found = compilation.use_compilation_cache()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=200)
data = DataSpec(source=DigitsSource(), size=100, evaluation_size=400)
record = train_cell(Cell(model=MLPSpec(num_params=3000), data=data, training=training))
print([(evaluation.loss.hex(), evaluation.metrics) for evaluation in record.evaluations])
print(sum(name == "/jax/compilation_cache/cache_hits" for name in hits))
print(found)
"""


def train(python: str, cache: Path) -> list[str]:
    """Returns the evaluations, how many programs came from the cache, and its folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    everything = {**inherited, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run([python, "-c", SCRIPT], capture_output=True, text=True, check=False, env=everything)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_program_from_the_cache_gives_the_same_bits_as_one_that_is_compiled(python, tmp_path):
    compiled, found = train(python, tmp_path), train(python, tmp_path)
    assert int(compiled[1]) == 0
    assert int(found[1]) >= 3
    assert found[0] == compiled[0]
    assert found[2].startswith(str(tmp_path / "scaling" / "programs"))


def test_the_users_own_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compilation.use_compilation_cache() is None
    assert not (tmp_path / "scaling" / "programs").exists()


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """The folder of the programs of all kinds of machines, as it is made when it is first used."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "configure", lambda **options: set(options))  # this process keeps its own
    assert compilation.use_compilation_cache().parent == tmp_path / "scaling" / "programs"
    return tmp_path / "scaling" / "programs"


def test_programs_are_the_users_own(programs):
    assert programs.stat().st_mode & 0o777 == 0o700
    programs.chmod(0o770)
    assert compilation.use_compilation_cache() is None


def test_once_a_day_what_is_old_or_too_much_is_removed_the_least_recently_used_first(programs, monkeypatch):
    monkeypatch.setattr(compilation, "MAX_BYTES", 250)
    now = time.time()
    for number, days in enumerate((1, 2, 3, 100)):
        path = programs / "machine" / f"{number}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (now - days * 86_400, now - 200 * 86_400))
    kept = lambda: sorted(path.name for path in programs.glob("*/*-cache"))  # noqa: E731
    compilation.remove_old_programs(programs)
    assert len(kept()) == 4  # looked at today
    os.utime(programs / "looked", (now - 90_000, now - 90_000))
    compilation.remove_old_programs(programs)
    assert kept() == ["0-cache", "1-cache"]
    monkeypatch.setattr(compilation, "MAX_BYTES", 1 << 30)
    os.utime(programs / "machine" / "1-cache", (now - 100 * 86_400, now - 100 * 86_400))
    os.utime(programs / "looked", (now - 90_000, now - 90_000))
    compilation.remove_old_programs(programs)
    assert kept() == ["0-cache"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compilation.use_compilation_cache() is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_processes_with_other_cores_have_other_folders():
    cores = os.sched_getaffinity(0)
    everywhere = compilation.machine_facts()
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert compilation.machine_facts() != everywhere
    finally:
        os.sched_setaffinity(0, cores)


def test_the_processor_is_known():
    assert len(compilation.machine_facts()["processor"]) > 10
