"""95 % intervals cover: a shorter run of the committed table of benchmarks/coverage.md."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.places import ROOT

PATH = ROOT / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("coverage_study", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_study"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["coverage_study"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        {"law": "power_floor", "cells": 9},
        {"law": "power_floor", "cells": 20, "noise": "heavy", "seeds": 3},
        {"law": "chinchilla", "cells": 9},
        {"law": "chinchilla", "cells": 25, "noise": "uneven"},
        {"law": "chinchilla", "cells": 36, "trunks": True},
    ],
    ids=str,
)
def test_intervals_cover_inside_the_design_and_a_decade_beyond(study, setting):
    # 80 tables: 0.95 has a standard error of 0.024, so that a true 0.95 is below 0.86 once in ten thousand
    row = study.measure(study.Setting(**setting), tables=80, resamples=120)
    for what in ("exponent", "curve", "decade beyond"):
        assert float(row[what]) >= 0.86, row


def test_every_setting_makes_a_table_that_can_be_fitted(study):
    import numpy as np

    for setting in study.SETTINGS:
        table, new = study.simulate(setting, np.random.default_rng(0))
        assert len(table) == setting.cells * setting.seeds
        assert len(new) == 1
        assert ("trunk" in table.columns) == setting.trunks
        assert not setting.trunks or new["trunk"][0] not in set(table["trunk"])
        assert setting.seeds == 1 or new["seed"][0] not in set(table["seed"])
