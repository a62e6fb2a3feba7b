"""Published tables of runs as laws take them, and published parameters of Chinchilla's law."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.places import TABLES

HOFFMANN = {  # unrounded, from the paper's sources, by Besiroglu et al.
    "E": np.exp(0.5267228),
    "A": np.exp(6.0073404),
    "B": np.exp(6.0179186),
    "alpha": 0.33917084,
    "beta": 0.2849083,
}


ROUNDED = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}


def read_public(name):
    if not (TABLES / name).exists():
        pytest.skip(f"{name} is not here")
    return pd.read_csv(TABLES / name)


def read_chinchilla(n=240):
    table = read_public("chinchilla_epoch.csv").sort_values("loss").iloc[:n]
    size = table["Model Size"].to_numpy()
    return {"num_params": size, "data_seen": table["Training FLOP"].to_numpy() / (6 * size)}, table["loss"].to_numpy()


def read_gadre(data, rows=None):
    table = read_public("gadre_c4_refinedweb.csv").query(f"dataset_name == '{data}_original'")
    table = table if rows is None else table.query(rows)
    columns = {"num_params": table["N"].to_numpy(float), "data_seen": table["D"].to_numpy(float)}
    return columns, table["loss_c4_val"].to_numpy()


def read_kyo_takano():
    table = read_public("kyo_takano_llm.csv")
    return {"num_params": table["N"].to_numpy(float), "data_seen": table["D"].to_numpy(float)}, table["loss"].to_numpy()
