"""What 95 % intervals cover: simulated studies of several laws, sizes and kinds of noise, fitted as a user would.

    python benchmarks/coverage.py --out benchmarks/coverage.md        # about half an hour of one core

A study is drawn from a known law, fitted with the defaults, and its intervals are compared with the truth: of the
exponent, of the curve at the largest size, and of the curve a decade beyond (in m, or in C = 6 N D for laws of both).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.fit_table import fit
from analysis.laws.law import Law
from analysis.laws.registry import get_law
from analysis.uncertainty.predictions import predict_interval


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    law: str
    cells: int
    noise: str = "normal"
    seeds: int = 1
    trunks: bool = False
    objective: str = "huber"
    exponent: str = "alpha"
    sd: float = 0.01


SETTINGS = (
    *(Setting("power_floor", cells, noise) for cells in (9, 20, 60) for noise in ("normal", "uneven", "heavy")),
    *(Setting("chinchilla", cells, noise) for cells in (9, 25, 60) for noise in ("normal", "uneven", "heavy")),
    Setting("power_floor", 9, seeds=3),
    Setting("power_floor", 20, "heavy", seeds=3),
    Setting("chinchilla", 9, seeds=3),
    Setting("chinchilla", 36, trunks=True),
    Setting("chinchilla", 60, trunks=True),
    Setting("kaplan_nd", 16, exponent="alpha_N"),
    Setting("m3", 20, exponent="c"),
    Setting("power_floor", 9, objective="log_mse"),
    Setting("chinchilla", 9, objective="log_mse"),
    Setting("chinchilla", 25, "heavy", objective="log_mse"),
)
NOTE = """# What 95 % intervals cover

Made by `python benchmarks/coverage.py --out benchmarks/coverage.md`: {tables} simulated studies a row, {resamples}
resamples each, fitted and resampled with the defaults; a share near 95 % is known to about ±{error:.1f} % (two
standard errors). Noise of 1 % in log y is even, or falls with size^-1/4 (uneven), or is Student's t with 3 degrees of
freedom (heavy). Where seeds repeat, each has an effect of half that size on all of its runs; where trunks are shared,
the effect of a trunk is twice its branches' own noise. The curve is judged at the largest size and a decade beyond in
m, or in C for laws of two variables. A new run is at the largest size, with noise of the same kind, a seed and a trunk
of its own.

"""
TRUTHS = {
    "power_floor": {"E": 0.1, "A": 5.0, "alpha": 0.5},
    "chinchilla": {"E": 1.8172, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717},
    "m3": {"beta": 5.0, "c": 0.45, "gamma": 1e-5},
}
RANGES = {"data_unique": (1e2, 6e4), "data_seen": (1e2, 6e4)}
JOINT = {"num_params": (5e7, 1e10), "data_seen": (1e9, 3e11), "data_unique": (1e9, 3e11)}


def simulate(setting: Setting, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns one study of a setting, and a run that was not made: at the largest size, with its own seed and trunk."""
    law = get_law(setting.law)
    ranges = JOINT if len(law.variables) > 1 else RANGES
    columns = {name: np.geomspace(*ranges[name], setting.cells) for name in law.variables}
    branch = np.arange(setting.cells)
    if len(law.variables) == 2:  # a square of sizes, a branch for each D where trunks are shared
        side = [len(part) for part in np.array_split(branch, round(np.sqrt(setting.cells)))]
        first, second = law.variables
        columns = {
            first: np.repeat(np.geomspace(*ranges[first], len(side)), side),
            second: np.concatenate([np.geomspace(*ranges[second], count) for count in side]),
        }
        branch = np.repeat(np.arange(len(side)), side)
    design = pd.DataFrame({name: np.append(values, values.max()) for name, values in columns.items()})
    trunk = np.append(branch, branch.max() + 1)
    clean = np.log(law.predict(TRUTHS.get(setting.law) or law.example, design))
    table, new = [], pd.DataFrame()
    for seed in range(setting.seeds + (setting.seeds > 1)):  # the last seed is that of the new run alone
        noise = NOISES[setting.noise](rng, design[law.variables[-1]].to_numpy()) * setting.sd
        if setting.seeds > 1:
            noise = noise + setting.sd / 2 * rng.standard_normal()
        if setting.trunks:
            noise = 0.5 * noise + setting.sd * rng.standard_normal(trunk.max() + 1)[trunk]
        run = design.assign(seed=seed, **{law.target: np.exp(clean + noise)})
        if setting.trunks:
            run["trunk"] = [f"trunk {number}" for number in trunk]
        table.append(run.iloc[:-1])
        new = run.iloc[-1:]
    return pd.concat(table[: setting.seeds], ignore_index=True), new.reset_index(drop=True)


def spread_unevenly(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    """Returns noise whose spread falls as size^-1/4, with the same mean square."""
    scale = size**-0.25
    return rng.standard_normal(len(size)) * scale / np.sqrt((scale**2).mean())


NOISES: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "normal": lambda rng, size: rng.standard_normal(len(size)),
    "uneven": spread_unevenly,
    "heavy": lambda rng, size: rng.standard_t(3, len(size)) / np.sqrt(3),  # scaled to the same variance
}


def beyond(law: Law, table: pd.DataFrame, times: float) -> dict[str, np.ndarray]:
    """Returns the largest sizes of a table, `times` further out: shared among the variables."""
    share = times ** (1 / len(law.variables))
    return {name: np.array([table[name].max() * share]) for name in law.variables}


def measure(setting: Setting, tables: int, resamples: int, seed: int = 0) -> dict[str, object]:
    """Returns coverage and median width of a setting's intervals."""
    law, rng = get_law(setting.law), np.random.default_rng(seed)
    truth = TRUTHS.get(setting.law) or dict(law.example)
    hits, widths = np.zeros(4), []
    for turn in range(tables):
        table, new = simulate(setting, rng)
        found = fit(table, law, objective=setting.objective, bootstrap=resamples, seed=turn)
        low, high = found.ci95[setting.exponent]
        inside = [low is not None and high is not None and low <= truth[setting.exponent] <= high]
        for times in (1.0, 10.0):
            at = beyond(law, table, times)
            ends, value = predict_interval(found, at).iloc[0], law.predict(truth, at)[0]
            inside.append(bool(ends["low"] <= value <= ends["high"]))
        widths.append(np.log(ends["high"] / ends["low"]))
        run = predict_interval(found, new[list(law.variables)], new_run=True).iloc[0]
        inside.append(bool(run["low"] <= new[law.target].iloc[0] <= run["high"]))
        hits += inside
    shares = hits / tables
    return {
        "law": setting.law,
        "cells": setting.cells,
        "seeds": setting.seeds,
        "noise": setting.noise + (" + trunks" if setting.trunks else ""),
        "objective": setting.objective,
        "exponent": f"{shares[0]:.3f}",
        "curve": f"{shares[1]:.3f}",
        "decade beyond": f"{shares[2]:.3f}",
        "new run": f"{shares[3]:.3f}",
        "median width beyond": f"{100 * float(np.median(widths)):.1f} %",
    }


def main() -> None:
    """Runs every setting and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--only", default="", help="settings whose description holds this")
    options = parser.parse_args()
    rows = []
    for setting in SETTINGS:
        if options.only not in str(setting):
            continue
        start = time.process_time()
        rows.append(measure(setting, options.tables, options.resamples))
        print(*rows[-1].values(), f"{time.process_time() - start:.0f} CPU-s", sep="  ", flush=True)
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(str(row[name]) for name in head) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    if options.out:
        note = NOTE.format(
            tables=options.tables, resamples=options.resamples, error=200 * np.sqrt(0.0475 / options.tables)
        )
        options.out.write_text(note + text, encoding="utf-8")


if __name__ == "__main__":
    main()
