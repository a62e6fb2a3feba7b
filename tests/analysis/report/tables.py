"""Tables of runs whose laws are known by construction: surfaces, isoFLOP profiles, sweeps of a setting."""

import numpy as np
import pandas as pd

E, A, B, ALPHA, BETA = 1.7, 480.0, 2080.0, 0.35, 0.37


def surface(N, D, gain=1.0):
    """Returns the loss of N parameters on D tokens; a gain is what compute counts for."""
    return E + A / (N * np.sqrt(gain)) ** ALPHA + B / (D * np.sqrt(gain)) ** BETA


def make_grid(ideas=("plain",), gain=4.0, seeds=(0, 1), noise=0.002) -> pd.DataFrame:
    """Returns runs of a grid of N and D for each idea, each with `gain` times the compute of the one before."""
    generator, rows = np.random.default_rng(0), []
    for number, idea in enumerate(ideas):
        for N in np.geomspace(1e6, 1e8, 4):
            for D in np.geomspace(2e7, 2e9, 4):
                for seed in seeds:
                    loss = surface(N, D, gain**number) * np.exp(generator.normal(0, noise))
                    rows.append((idea, seed, N, D, 6 * N * D, loss))
    return pd.DataFrame(rows, columns=["label", "seed", "num_params", "data_seen", "train_flops", "loss"])


def make_profiles(budgets=(1e17, 1e18, 1e19), sizes=7, noise=0.0) -> pd.DataFrame:
    """Returns runs of isoFLOP profiles around their optima, one a size."""
    generator, rows = np.random.default_rng(1), []
    for C in budgets:
        middle = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (C / 6) ** (BETA / (ALPHA + BETA))
        for N in middle * np.geomspace(0.2, 5, sizes):
            D = C / (6 * N)
            rows.append((N, D, C, surface(N, D) * np.exp(generator.normal(0, noise))))
    return pd.DataFrame(rows, columns=["num_params", "data_seen", "train_flops", "loss"])


def make_sweep(sizes=(1e6, 4e6, 1.6e7), seeds=(0, 1, 2), noise=0.002) -> pd.DataFrame:
    """Returns runs of six learning rates at each size; the best is 0.3 N^-1/3."""
    generator, rows = np.random.default_rng(2), []
    for N in sizes:
        best = 0.3 * N ** (-1 / 3)
        for rate in best * np.geomspace(0.2, 5, 6):
            for seed in seeds:
                loss = (2 + 100 / N**0.3) * (1 + 0.02 * np.log(rate / best) ** 2) * np.exp(generator.normal(0, noise))
                rows.append((seed, N, 1e9, 6e9 * N, rate, loss))
    return pd.DataFrame(rows, columns=["seed", "num_params", "data_seen", "train_flops", "peak_lr", "loss"])
