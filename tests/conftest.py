"""What every test runs under: two virtual CPU devices, one thread, strict promotion; which tests run, and how fast."""

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
# As many threads as there are cores, on cores that other tests keep busy, wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from tests.places import SHARED_DATA

# XLA reads its flags when it first compiles, and ends a process that has given it one that it does not know.
FIRST_COMPILATION = "import jax; jax.jit(lambda x: x + 1)(1.0)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--every N`, for a look into every room in a fraction of the time."""
    parser.addoption(
        "--every", type=int, default=1, metavar="N", help="of each folder, the last and every Nth before it"
    )


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves every Nth test of each folder, counted from its last: the first ones are often the longest."""
    kept, left, seen = [], [], Counter[Path]()
    for item in reversed(items):
        (left if seen[item.path.parent] % config.getoption("every") else kept).append(item)
        seen[item.path.parent] += 1
    config.hook.pytest_deselected(items=left)
    items[:] = reversed(kept)


def pytest_configure(config: pytest.Config) -> None:
    """Makes the tests faster; has XLA read the flags of `QUICK_XLA_FLAGS` that it knows.

    Raises:
      UsageError: JAX does not start here.
    """
    gc.set_threshold(100_000, 20, 100)  # with what JAX keeps, looking for garbage as usual takes a tenth of all time
    asked, own = (os.environ.get(name, "") for name in ("QUICK_XLA_FLAGS", "XLA_FLAGS"))
    is_worker = hasattr(config, "workerinput")  # which need not find out again what the first process has found
    if (asked or own) and not is_worker:
        asked = " ".join(flag for flag in asked.split() if not _start_jax(own, flag).returncode)
        if not asked and (plain := _start_jax(own)).returncode:
            raise pytest.UsageError(f"JAX ends with status {plain.returncode}, XLA_FLAGS={own!r}: {plain.stderr}")
        os.environ["QUICK_XLA_FLAGS"] = asked
    if asked:
        from scaling.devices.compilation import use_compilation_cache

        os.environ["XLA_FLAGS"] = _joined(own, asked)
        use_compilation_cache()  # a tenth of the programs are other tests' too, and tomorrow all of them are known
        exec(FIRST_COMPILATION)  # noqa: S102
        os.environ["XLA_FLAGS"] = own  # what tests start is compiled as users' programs are


def _start_jax(*flags: str) -> subprocess.CompletedProcess[str]:
    """Starts JAX with flags of XLA in a process of its own."""
    command, environment = [sys.executable, "-P", "-c", FIRST_COMPILATION], {**os.environ, "XLA_FLAGS": _joined(*flags)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _joined(*flags: str) -> str:
    return " ".join(flags).strip()  # XLA takes a lone space for the name of a file


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test skips where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the real data beside the project")
    return SHARED_DATA


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """Programs are compiled four times as fast and hardly optimised: for formulas, not for bits, memory or speed."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable
