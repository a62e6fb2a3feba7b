"""Networks are compared with formulas and with each other, within a tolerance."""

import pytest


@pytest.fixture(autouse=True)
def _quickly(quick_compilation: None) -> None:
    pass
