"""What every test runs under: two virtual CPU devices, strict promotion, and a cache folder of its own."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")

import pytest

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


def _have_xla_read(flags: str) -> None:
    """Sets flags of XLA for this process, and for none that it starts."""
    import jax

    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {flags}"
    jax.jit(lambda x: x + 1)(1.0)  # it reads them once
    if before is None:
        del os.environ["XLA_FLAGS"]
    else:
        os.environ["XLA_FLAGS"] = before


if "QUICK_XLA_FLAGS" in os.environ:
    _have_xla_read(os.environ["QUICK_XLA_FLAGS"])


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
