"""Fits of Chinchilla's law: this project beside the published protocols and beside the SciPy one would tune by hand.

Every side sees the same 240 points (Epoch's extraction; the five largest losses dropped) and minimises the same sum of
Huber charges (delta 1e-3, log loss), and takes its turn in a process of its own. `4,500 starts` is Hoffmann's protocol:
L-BFGS-B with numerical gradients from a grid. `notebook` is Besiroglu's bootstrap: BFGS with numerical gradients from
Hoffmann's parameters. `BFGS` and `trust-exact` start at the optimum, with centred logarithms, exact derivatives and an
objective scaled to its tolerances. `JAX` is damped Newton's method from there, compiled, in float64, for 128 resamples
at a time; every law and number of points is compiled anew. Read the ratios of CPU seconds: they count every thread and
bear a busy machine. `make bench` writes the tables to benchmarks/fits.md.
"""

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).parents[2] / "shared" / "data" / "scaling-tables" / "chinchilla_epoch.csv"
OPTIMUM = 0.0010182740178  # of the objective; three optimisers agree
DELTA, RESAMPLES, SEED = 1e-3, 4000, 42
HOFFMANN = (6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083)  # a, b, e, alpha, beta; from the paper's source
# in a turn; times are scaled up
REFITS = {"notebook": 200, "BFGS": RESAMPLES, "trust-exact": 1000, "JAX": RESAMPLES, "ours": RESAMPLES}


def load() -> tuple[Any, Any, Any]:
    """Returns N, D and loss of the 240 points."""
    with TABLE.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    size, flops, loss = (np.array([float(row[of]) for row in rows]) for of in ("Model Size", "Training FLOP", "loss"))
    return size, flops / (6 * size), loss


def draw() -> Any:
    """Returns how often each resample has each point, [R, n]."""
    return np.random.default_rng(SEED).multinomial(240, np.full(240, 1 / 240), RESAMPLES).astype(float)


def charge(params: Any, size: Any, data: Any, loss: Any, weights: Any) -> Any:
    """Returns the published objective at (a, b, e, alpha, beta), from the logarithms of N, D and loss."""
    from scipy.special import huber

    a, b, e, alpha, beta = params
    fitted = np.logaddexp(np.logaddexp(a - alpha * size, b - beta * data), e)
    return (weights * huber(DELTA, fitted - loss)).sum()


def start_often() -> dict[str, Any]:
    """Returns what the protocol of 4,500 starts costs and finds."""
    from scipy.optimize import minimize

    points = [np.log(column) for column in load()]
    far, near = np.arange(0, 30, 5), np.arange(0, 2.5, 0.5)
    grid = list(itertools.product(far, far, np.arange(-1, 1.5, 0.5), near, near))
    began = clock()
    with np.errstate(all="ignore"):
        ends = [minimize(charge, start, (*points, 1.0), method="L-BFGS-B") for start in grid]
    calls = sum(end.nfev for end in ends)
    values = np.array([end.fun for end in ends])
    arrived = float((values <= OPTIMUM + 1e-9).mean())
    return {"first": since(began), "value": values.min(), "starts": len(grid), "calls": calls, "arrived": arrived}


def fit_once() -> dict[str, Any]:
    """Returns what our global fit costs, the first time and again."""
    from analysis.fitting.fit_law import fit_law

    size, data, loss = load()
    times = []
    for _ in range(2):
        began = clock()
        fit = fit_law("chinchilla", {"num_params": size, "data_seen": data}, loss, objective="huber", delta=DELTA)
        times.append(since(began))
    return {"first": times[0], "again": times[1], "value": fit.objective.value}


def refit_published(count: int) -> dict[str, Any]:
    """Returns what the published notebook's bootstrap costs, and its objectives."""
    from scipy.optimize import minimize

    points, weights = [np.log(column) for column in load()], draw()[:count]
    began = clock()
    ends = [minimize(charge, HOFFMANN, (*points, w), method="BFGS") for w in weights]
    return {"first": since(began), "values": [end.fun for end in ends]}


def refit_tuned(count: int, method: str) -> dict[str, Any]:
    """Returns what a SciPy loop costs that knows the optimum, exact derivatives and centred logarithms."""
    from scipy.optimize import minimize

    size, data, loss = load()
    log_loss, many, scale = np.log(loss), draw()[:count], 1e3
    middle = np.log(size).mean(), np.log(data).mean()
    x, t = np.log(size) - middle[0], np.log(data) - middle[1]
    a, b, e, alpha, beta = optimum()
    start = np.array([a - alpha * middle[0], b - beta * middle[1], e, alpha, beta])

    def look(at: Any) -> tuple[Any, Any, Any]:
        parts = np.empty((5, len(x)))
        parts[0], parts[1], parts[2] = np.exp(at[0] - at[3] * x), np.exp(at[1] - at[4] * t), np.exp(at[2])
        parts[3], parts[4] = -parts[0] * x, -parts[1] * t
        fitted = parts[:3].sum(0)
        return parts, fitted, np.log(fitted) - log_loss

    def slope(at: Any, w: Any) -> tuple[Any, Any]:
        parts, fitted, r = look(at)
        far = np.abs(r)
        near = np.minimum(far, DELTA)
        return scale * (w * near * (far - 0.5 * near)).sum(), scale * parts @ (w * np.clip(r, -DELTA, DELTA) / fitted)

    def bend(at: Any, w: Any) -> Any:
        parts, fitted, r = look(at)
        pull = w * np.clip(r, -DELTA, DELTA)
        jacobian, push = parts / fitted, pull / fitted
        hessian = (jacobian * (np.where(np.abs(r) < DELTA, w, 0) - pull)) @ jacobian.T
        first = parts @ push
        hessian[[0, 1, 2], [0, 1, 2]] += first[:3]
        for row, column, value in ((0, 3, first[3]), (1, 4, first[4])):
            hessian[row, column] += value
            hessian[column, row] += value
        hessian[3, 3] -= (parts[3] * x) @ push
        hessian[4, 4] -= (parts[4] * t) @ push
        return scale * hessian

    extra = {"hess": bend} if method == "trust-exact" else {}
    began = clock()
    ends = [minimize(slope, start, (w,), jac=True, method=method, options={"gtol": 1e-5}, **extra) for w in many]
    return {"first": since(began), "values": [end.fun / scale for end in ends]}


def refit_compiled(count: int) -> dict[str, Any]:
    """Returns what JAX costs: damped Newton steps of its own derivatives in float64, 128 resamples at a time."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    size, data, log_loss = (jnp.log(column) for column in load())
    middle, scale = (size.mean(), data.mean()), 1e3
    a, b, e, alpha, beta = optimum()
    start = jnp.array([a - alpha * middle[0], b - beta * middle[1], e, alpha, beta])

    def goal(at: Any, w: Any) -> Any:
        near = jnp.exp(at[0] - at[3] * (size - middle[0]))
        r = jnp.log(near + jnp.exp(at[1] - at[4] * (data - middle[1])) + jnp.exp(at[2])) - log_loss
        inner = jnp.minimum(jnp.abs(r), DELTA)
        return scale * (w * inner * (jnp.abs(r) - 0.5 * inner)).sum()

    def step(state: tuple[Any, ...], w: Any) -> tuple[Any, ...]:
        at, ridge, _, turn = state
        (value, slope), bend = jax.value_and_grad(goal)(at, w), jax.hessian(goal)(at, w)
        move = -jnp.linalg.solve(bend + ridge * jnp.diag(jnp.abs(jnp.diag(bend)) + 1e-9), slope)
        gain = -(slope @ move)
        better = (gain > 0) & (goal(at + move, w) < value)
        done = (jnp.abs(gain) * (1 + ridge) < 1e-13 * value) | (ridge > 1e12)
        ridge = jnp.where(better, jnp.maximum(ridge * 0.1, 1e-14), ridge * 8)
        return jnp.where(better, at + move, at), ridge, done, turn + 1

    def solve(w: Any) -> Any:
        state = jax.lax.while_loop(
            lambda state: ~state[2] & (state[3] < 300), lambda state: step(state, w), (start, 0.1, False, 0)
        )
        return goal(state[0], w)

    many = jnp.array(draw()[:count])
    began = clock()
    run = jax.jit(lambda many: jax.lax.map(solve, many, batch_size=128)).lower(many).compile()
    compiled = since(began)
    began = clock()
    values = np.asarray(run(many)) / scale
    return {"first": since(began), "compile": compiled, "values": values.tolist()}


def refit_ours(count: int) -> dict[str, Any]:
    """Returns what our refits cost, the first time and again, and their objectives."""
    from analysis.fitting.fit_law import refit

    size, data, loss = load()
    columns, weights, (a, b, e, alpha, beta) = {"num_params": size, "data_seen": data}, draw()[:count], optimum()
    start, times = np.array([np.exp(e), np.exp(a), np.exp(b), alpha, beta]), []
    for _ in range(2):
        began = clock()
        params = refit("chinchilla", columns, loss, weights, start=start, objective="huber", delta=DELTA)
        times.append(since(began))
    points = [np.log(column) for column in (size, data, loss)]
    values = [
        charge((np.log(A), np.log(B), np.log(E), alpha, beta), *points, w)
        for (E, A, B, alpha, beta), w in zip(params, weights, strict=True)
    ]
    return {"first": times[0], "again": times[1], "values": values}


def optimum() -> tuple[float, ...]:
    """Returns (a, b, e, alpha, beta) of the 240 points, from our fit; where the warm-started sides begin."""
    from analysis.fitting.fit_law import fit_law

    size, data, loss = load()
    params = fit_law("chinchilla", {"num_params": size, "data_seen": data}, loss).params
    return (*(float(np.log(params[name])) for name in "ABE"), params["alpha"], params["beta"])


def analyse() -> dict[str, Any]:
    """Returns what a table, its fit and 1,000 resamples cost after the first import."""
    import pandas as pd

    from analysis.fitting.fit_law import fit_law, refit

    began = clock()
    rows = pd.read_csv(TABLE).sort_values("loss").iloc[:-5]
    size, loss = rows["Model Size"].to_numpy(), rows["loss"].to_numpy()
    columns = {"num_params": size, "data_seen": rows["Training FLOP"].to_numpy() / (6 * size)}
    fit = fit_law("chinchilla", columns, loss)
    refit("chinchilla", columns, loss, draw()[:1000], start=fit.vector)
    return {"first": since(began)}


SIDES: dict[str, Callable[[], dict[str, Any]]] = {
    "4,500 starts": start_often,
    "global": fit_once,
    "notebook": lambda: refit_published(REFITS["notebook"]),
    "BFGS": lambda: refit_tuned(REFITS["BFGS"], "BFGS"),
    "trust-exact": lambda: refit_tuned(REFITS["trust-exact"], "trust-exact"),
    "JAX": lambda: refit_compiled(REFITS["JAX"]),
    "analysis": analyse,
    "ours": lambda: refit_ours(REFITS["ours"]),
}


def clock() -> tuple[float, float]:
    """Returns the wall's and the process's seconds."""
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float]) -> list[float]:
    """Returns wall and CPU seconds since then."""
    return [now - then for now, then in zip(clock(), began, strict=True)]


def run_side(side: str) -> dict[str, Any]:
    """Returns a side's answer from a process of its own, with what the process took and its memory in MB."""
    before = os.times()
    child = subprocess.run([sys.executable, __file__, "--side", side], stdout=subprocess.PIPE, text=True, check=True)
    after = os.times()
    answer: dict[str, Any] = json.loads(child.stdout)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {**answer, "all": [after.elapsed - before.elapsed, used]}


def run_command(resamples: int) -> list[float]:
    """Returns wall and CPU seconds of `scaling fit` on the table; not numbers where the command fails."""
    command = ["-P", "-m", "launch.cli", "fit", str(TABLE), "--law", "chinchilla", "--bootstrap", str(resamples)]
    command += [
        "--column",
        "num_params=Model Size",
        "--column",
        "train_flops=Training FLOP",
        "--keep",
        "loss<3.44",
        "--derive",
        "data_seen",
    ]
    before = os.times()
    child = subprocess.run([sys.executable, *command, "--json"], capture_output=True, check=False)
    after = os.times()
    if child.returncode:
        print(child.stderr.decode()[-300:], file=sys.stderr)
        return [float("nan")] * 2
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return [after.elapsed - before.elapsed, used]


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help="run one side here and print its answer")
    options = parser.parse_args()
    if options.side:
        import resource

        answer = SIDES[options.side]()
        answer["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(answer))
        return
    lines = compare(options.repeats)
    print("\n".join(lines))
    if options.out:
        head = ["# Fits", "", (__doc__ or "").split("\n\n")[1].strip().replace("\n", " "), ""]
        options.out.write_text("\n".join([*head, *lines]))


def compare(repeats: int) -> list[str]:
    """Returns the lines of both tables."""
    turns: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    commands = []
    for turn in range(repeats):
        for side in SIDES:
            if side != "4,500 starts" or not turn:  # minutes, once
                turns[side].append(run_side(side))
                print(side, turns[side][-1]["first"], file=sys.stderr)
        commands.append(run_command(1000))

    def median(side: str, key: str, of: int) -> float:
        return statistics.median(turn[key][of] for turn in turns[side]) if key in turns[side][0] else float("nan")

    many, ours = turns["4,500 starts"][0], turns["global"][0]
    lines = [
        "## One global fit",
        "",
        "| side | CPU s | wall s | objective | × CPU | × wall |",
        "|---|---|---|---|---|---|",
    ]
    lines.append(
        f"| {many['starts']:,} starts, {many['calls']:,} evaluations; {many['arrived']:.0%} end within 1e-9 | "
        f"{many['first'][1]:.1f} | {many['first'][0]:.1f} | {many['value']:.13f} | 1 | 1 |"
    )
    for key, title in (("first", "this project, first call"), ("again", "this project, second call")):
        cpu, wall = median("global", key, 1), median("global", key, 0)
        lines.append(
            f"| {title} | {cpu:.2f} | {wall:.2f} | {ours['value']:.13f} | {many['first'][1] / cpu:.0f} | "
            f"{many['first'][0] / wall:.0f} |"
        )
    lines += ["", f"## {RESAMPLES:,} bootstrap refits", ""]
    lines += [
        "| side | CPU s | wall s | refits in a turn | worst and best objective less ours |",
        "|---|---|---|---|---|",
    ]
    mine = np.array(turns["ours"][0]["values"])
    costs = {}
    for side, count in REFITS.items():
        times = [median(side, "again" if side == "ours" else "first", of) * RESAMPLES / count for of in (1, 0)]
        costs[side] = times
        gap = np.array(turns[side][0]["values"]) - mine[:count]
        title = "this project, second call" if side == "ours" else side
        lines.append(f"| {title} | {times[0]:.2f} | {times[1]:.2f} | {count:,} | {gap.max():.1e}, {gap.min():.1e} |")
    first = median("ours", "first", 1)
    tuned = min(costs["BFGS"][0], costs["trust-exact"][0])
    compiled, gap = median("JAX", "compile", 1), costs["ours"][0] - costs["JAX"][0]
    lines += [
        "",
        f"Our first call took {first:.2f} CPU s: nothing is compiled. JAX first compiled for {compiled:.2f} CPU s",
    ]
    lines[-1] += (
        f", which its refits win back after {compiled / gap * RESAMPLES:,.0f} of them."
        if gap > 0
        else " and gained nothing."
    )
    lines.append(
        f"By CPU, this project is {costs['notebook'][0] / costs['ours'][0]:.0f} times as fast as the notebook's "
        f"protocol and {tuned / costs['ours'][0]:.1f} times as fast as the faster tuned loop; by wall, "
        f"{costs['notebook'][1] / costs['ours'][1]:.0f} and "
        f"{min(costs['BFGS'][1], costs['trust-exact'][1]) / costs['ours'][1]:.1f}."
    )
    whole = [statistics.median(turn["all"][of] for turn in turns["analysis"]) for of in (1, 0)]
    command = [statistics.median(times[of] for times in commands) for of in (1, 0)]
    memory = max(turn["memory"] for turn in turns["ours"])
    lines += ["", "## A whole process, imports included", ""]
    lines.append(f"Table, fit and 1,000 refits from Python: {whole[0]:.2f} CPU s, {whole[1]:.2f} s.")
    if np.isfinite(command[0]):
        lines.append(f"`scaling fit` with 1,000 resamples: {command[0]:.2f} CPU s, {command[1]:.2f} s.")
    lines.append(f"Memory of the process of {RESAMPLES:,} refits: {memory:.0f} MB.")
    return [*lines, "", f"Medians of {repeats} turns; the 4,500 starts once; scaled where a turn has fewer refits.", ""]


if __name__ == "__main__":
    main()
