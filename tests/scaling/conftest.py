"""Programs are compared with formulas and with each other, and are run briefly: what takes time is compiling them."""

import pytest


@pytest.fixture(autouse=True)
def _quickly(quick_compilation: None) -> None:
    pass
