"""How the tests are run: flags that XLA knows, reasons that are told, and a part of every folder."""

import os
import subprocess

import pytest

from tests.places import ROOT

# Whose imports take no time.
LIGHT = "tests/test_house.py", "tests/test_pythons.py", "tests/scaling/specs/test_base.py"


def collect(python: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *words]
    environment = {**os.environ, "QUICK_XLA_FLAGS": "", "XLA_FLAGS": "", **variables}
    environment.pop("PYTEST_XDIST_WORKER", None)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_flags_that_this_xla_does_not_know_are_left_out(python):
    flags = "--xla_invented=1 --xla_backend_optimization_level=1"
    done = collect(python, LIGHT[0], QUICK_XLA_FLAGS=flags)
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_jax_does_not_start_the_reason_is_told(python):
    done = collect(python, LIGHT[0], XLA_FLAGS="--xla_invented=1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Unknown flag in XLA_FLAGS: --xla_invented=1" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_part_has_the_last_test_of_each_folder_and_every_nth_before_it(python):
    everything, part = (
        [line for line in collect(python, *LIGHT, *words).stdout.splitlines() if "::" in line]
        for words in ((), ("--every", "3"))
    )
    deep = [line for line in everything if line.startswith("tests/scaling/")]
    top = [line for line in everything if line not in deep]
    assert part == top[::-3][::-1] + deep[::-3][::-1]
    assert len(everything) > len(part) > 2
