"""Writes the golden files of this folder that are missing; run by hand, `python -m tests.golden.make`.

The files hold what earlier versions wrote and computed, and the test that reads them says whether this version still
agrees. So they are not made anew because code has changed: a file that no longer agrees has found a fault, or a change
that users' stores, fits and fingerprints must survive too. To add one, add what makes it and run this; what is there
stays as it is.
"""

import json
import shlex
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.fitting.fit import Fit, document_fits, load_fits
from analysis.fitting.fit_curves import fit_curves
from analysis.laws.registry import get_law
from analysis.laws.schedules import Curve, make_rates
from analysis.laws.whole_curves import multi_power, tissue
from analysis.tables.table import read_table
from analysis.validation.frozen import freeze
from launch.cli import main
from launch.coordination.provenance import user_name
from tests.golden.cells import vary
from tests.golden.compute import COMPUTED, GOLDEN, TABLE_JSON, run_command

SIZES = "sizes.csv --keep optimizer==adam --law chinchilla"
FITS = {
    "chinchilla": f"{SIZES} --bootstrap 20",
    "held": f"{SIZES} --bootstrap 20 --hold alpha=0.35 --objective mse --scheme residual --interval bca",
    "by_optimizer": "sizes.csv --law power_floor --variables data_seen --by optimizer --bootstrap 0",
    "column": (
        "theirs.csv --law chinchilla --derive data_seen --bootstrap 0 --keep 'loss<3.5' "
        "--column num_params='Model Size' --column train_flops='Training FLOP' --column loss='Final Loss'"
    ),
    "m4": "learning.csv --keep label==MLP --law m4 --target error --by none --bootstrap 20",
    "series": "learning.csv --law power_floor --bootstrap 20",
    "weighted": "learning.csv --law power --target loss --by label --weights noise --bootstrap 0",
    "store": "store --keep 'label==logistic regression' --law power --bootstrap 10",
}


KEPT_LEASES = ("a120d0d32b95", "386508ee92a4")  # the cell that fails, and one with a record, which it repeats


def make_store() -> None:
    """Trains the study, and leaves out of its files who did it where; leases are kept where no record is, or of one."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        main(["run", str(GOLDEN / "study.py"), "--store", str(store), "--workers", "1"])  # one cell fails, as it should
        host, root = socket.gethostname(), str(GOLDEN.parents[1])
        for path in sorted(store.rglob("*")):
            if path.is_file() and (path.parent.name != "leases" or path.parent.parent.name in KEPT_LEASES):
                text = path.read_text()
                for ours, neutral in {
                    f'"host":"{host}"': '"host":"host"',
                    f'"user":"{user_name()}"': '"user":"user"',
                    f"{root}/": "",
                }.items():
                    text = text.replace(ours, neutral)
                target = GOLDEN / "store" / path.relative_to(store).as_posix().replace(f"-{host}-", "-host-")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)


def make_tables() -> None:
    """Writes what fits are made of: synthetic runs of two optimisers, others under foreign names, learning curves."""
    law = get_law("chinchilla")
    truth = {"adam": law.example, "lion": {**law.example, "E": law.example["E"] * 0.98}}
    runs = [
        law.sample(levels=5, params=params, noise=0.004, seed=number) for number, params in enumerate(truth.values())
    ]
    sizes = pd.concat([table.assign(optimizer=name) for name, table in zip(truth, runs, strict=True)])
    sizes = sizes.assign(num_params=sizes["num_params"].round(-6), data_seen=sizes["data_seen"].round(-6))
    _write("sizes.csv", sizes.round({"loss": 6}).to_csv(index=False))
    ours = law.sample(levels=5, noise=0.004, seed=7)
    flops = 6 * ours["num_params"] * ours["data_seen"]
    theirs = pd.DataFrame(
        {"Model Size": ours["num_params"], "Training FLOP": flops, "Final Loss": ours["loss"].round(6)}
    )
    _write("theirs.csv", theirs.to_csv(index=False))
    curves = []
    for number, (label, floor) in enumerate({"MLP": 0.1, "linear": 0.2}.items()):
        for name, scale in {"loss": 3.0, "error": 1.0}.items():
            truth_of = {"E": floor * scale, "A": 4.0 * scale, "alpha": 0.5 - 0.1 * number}
            curve = get_law("power_floor").sample(levels=8, seeds=2, params=truth_of, noise=0.02, seed=number)
            curves.append(curve.rename(columns={"loss": name}).assign(label=label))
    points = [pd.merge(*curves[at : at + 2], on=["label", "seed", "data_unique"]) for at in (0, 2)]
    learning = pd.concat(points).assign(data_seen=lambda table: table["data_unique"])
    order = ["label", "seed", "data_unique", "data_seen", "loss", "error"]
    _write("learning.csv", learning[order].round({"loss": 6, "error": 6}).to_csv(index=False))


def make_fits() -> None:
    """Fits the tables by the command line, and whole curves in Python."""
    for name, words in FITS.items():
        if not (GOLDEN / "fits" / f"{name}.json").exists():
            run_command(["fit", *shlex.split(words), "--to", f"fits/{name}.json"])
    for law, objective in ((multi_power, "huber"), (tissue, "log_mse")):
        if not (GOLDEN / "fits" / f"{law.name}.json").exists():
            rates = [make_rates("cosine", steps, peak=1e-3, end=1e-4, warmup_steps=50) for steps in (1_000, 2_000)]
            rates.append(make_rates("linear", 1_500, peak=1e-3, warmup_steps=50, stable_steps=1_000))
            blank = [Curve(item, np.arange(100, len(item), 50)) for item in rates]
            runs = [Curve(one.rates, one.steps, law.predict(law.example, {"schedule": one}).round(4)) for one in blank]
            _save(law.name, [fit_curves(runs, law, objective=objective)])
    if not (GOLDEN / "frozen.json").exists():
        table = read_table(str(GOLDEN / "sizes.csv"), keep=["optimizer==adam"])
        beyond = {"num_params": [2e10, 5e10], "data_seen": [4e11, 1e12]}
        (fit,) = load_fits(str(GOLDEN / "fits" / "chinchilla.json"))
        freeze(fit, beyond, str(GOLDEN / "frozen.json"), note="golden", table=table)


def _save(name: str, fits: Iterable[Fit]) -> None:
    (found,) = document_fits(list(fits))["fits"]
    _write(f"fits/{name}.json", json.dumps(found) + "\n")


def _write(name: str, text: str) -> None:
    path = GOLDEN / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"{name}: {len(text):,} bytes")


def _render(value: Any) -> str:
    """Returns JSON with one line for each entry of the outermost level, so that differences can be read."""
    items = [f"{json.dumps(key)}:{_compact(item)}" for key, item in value.items()] if isinstance(value, dict) else None
    lines = ",\n".join(map(_compact, value) if items is None else items)
    return f"[\n{lines}\n]\n" if items is None else f"{{\n{lines}\n}}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def make() -> None:
    """Writes every golden file that is missing."""
    if not (GOLDEN / "store").exists():
        make_store()
    if not (GOLDEN / "table.csv").exists():
        run_command(["table", "store", "--to", "table.csv"])
    if not (GOLDEN / "table.json").exists():
        _write("table.json", run_command(TABLE_JSON.split()))
    make_tables()
    make_fits()
    lines = ",\n".join(f'"{name}":{cell.canonical_json()}' for name, cell in vary().items())
    _write("cells.json", f"{{\n{lines}\n}}\n")
    for name, compute in COMPUTED.items():
        if not (GOLDEN / name).exists():
            _write(name, _render(compute()))


if __name__ == "__main__":
    make()
