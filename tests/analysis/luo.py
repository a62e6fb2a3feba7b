"""The runs of Luo et al. 2025: their schedules rebuilt, their logged losses, and the parameters that they publish."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.fitting.fit import Fit
from analysis.fitting.fit_curves import score_curve
from analysis.laws.schedules import Curve, make_rates
from analysis.laws.whole_curves import multi_power, tissue
from tests.places import TABLES

FOLDER = TABLES / "multi_power"


WARMUP, PEAK, END = 2160, 3e-4, 3e-5


TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")


TEST = ("constant_72000", "cosine_72000", "wsdcon_3", "wsdcon_18", "wsd_20000_24000", "wsdld_20000_24000")


PUBLISHED = {  # Luo et al. 2025, by millions of parameters
    25: {"L0": 3.0405, "A": 0.5247, "B": 363.79, "alpha": 0.5079, "C": 2.0656, "beta": 0.5828, "gamma": 0.6414},
    100: {"L0": 2.6514, "A": 0.6012, "B": 437.95, "alpha": 0.4530, "C": 2.1325, "beta": 0.5979, "gamma": 0.6552},
}


TISSUE = {"L0": 2.9, "A": 0.6, "C": 0.5, "alpha": 0.5, "forget": 1e-3}


def read_rates(name):
    kind, *numbers = name.split("_")
    numbers = [int(item) for item in numbers]
    decay, steps, end, stable = {
        "constant": ("constant", numbers[-1], 0.0, None),
        "cosine": ("cosine", numbers[-1], END, None),
        "wsd": ("exponential", numbers[-1], END, numbers[0]),
        "wsdld": ("linear", numbers[-1], END, numbers[0]),
        "wsdcon": ("step", 16_000, numbers[0] * 1e-5, 8_000),
    }[kind]
    return make_rates(decay, steps, peak=PEAK, end=end, warmup_steps=WARMUP, stable_steps=stable)


def read_curve(size, name):
    path = FOLDER / str(size) / f"{name}.csv"
    if not path.exists():
        pytest.skip("the curves of Luo et al. are not here")
    table = pd.read_csv(path)
    return Curve(read_rates(name), table["step"].to_numpy(), table["loss"].to_numpy(), name), table["lr"].to_numpy()


def score_tests(fit_or_params, size):
    params = fit_or_params.params | fit_or_params.held if isinstance(fit_or_params, Fit) else fit_or_params
    law = tissue if "forget" in params else multi_power
    runs = [read_curve(size, name)[0] for name in TEST]
    return {run.name: score_curve(law.predict(params, {"schedule": run}), run.loss)["r2"] for run in runs}
