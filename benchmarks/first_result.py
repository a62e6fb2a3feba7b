"""The way to the first result: twelve tiny cells on digits, beside plain scripts that do the same; and many short ones.

Every side trains an MLP of 2,000 parameters on four subsets of the digits with three seeds each, for 200 steps of 64
images with AdamW, and evaluates each on 400 images. The plain scripts are one file each, as one would write it: one
jitted step in Flax, an ordinary loop in PyTorch. Sides take turns, each a whole process tree, with nothing but the
operating system's caches left from the turn before; *warm* finds the programs of the turn before in the cache. CPU
seconds are of all processes of a side. Read the ratios. `make bench` writes the tables to benchmarks/first_result.md;
it needs PyTorch (`pip install -e .[bench]`).
"""

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STUDY = '''
"""{question}"""

from scaling import AdamWSpec, Cell, DataSpec, DigitsSource, MLPSpec, Series, Study, TrainingSpec


def study(num_steps: int = 200, sizes: tuple[int, ...] = (100, 200, 400, 800), num_seeds: int = 3) -> Study:
    """Returns the study."""
    training = TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=num_steps, batch_size=64)
    cells = tuple(
        Cell(
            model=MLPSpec(num_params=2_000),
            data=DataSpec(source=DigitsSource(), size=m, evaluation_size=400),
            training=training,
            seed=seed,
        )
        for m in sizes
        for seed in range(num_seeds)
    )
    return Study(name="first", question="{question}", series=(Series(label="MLP", cells=cells),))
'''.replace("{question}", "How soon is the first result there?")

FLAX = """
import jax
import numpy as np
import optax
from flax import linen as nn
from sklearn.datasets import load_digits


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(26)(x)))


images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
order = np.random.default_rng(0).permutation(len(images))
held_out, pool = order[:400], order[400:]
model, tx = MLP(), optax.adamw(optax.cosine_decay_schedule(1e-2, 200))


def loss_of(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model.apply(params, x), y).mean()


@jax.jit
def step(params, state, x, y):
    loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss


@jax.jit
def evaluate(params, x, y):
    logits = model.apply(params, x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), (logits.argmax(-1) != y).mean()


for m in (100, 200, 400, 800):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        subset = pool[rng.permutation(len(pool))[:m]]
        params = model.init(jax.random.key(seed), images[:1])
        state = tx.init(params)
        for _ in range(200):
            batch = subset[rng.integers(0, m, 64)]
            params, state, loss = step(params, state, images[batch], labels[batch])
        print(m, seed, *map(float, evaluate(params, images[held_out], labels[held_out])))
"""

TORCH = """
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor((images / 16).astype(np.float32)), torch.tensor(labels)
order = np.random.default_rng(0).permutation(len(images))
held_out, pool = order[:400], order[400:]
for m in (100, 200, 400, 800):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        subset = pool[rng.permutation(len(pool))[:m]]
        model = torch.nn.Sequential(torch.nn.Linear(64, 26), torch.nn.ReLU(), torch.nn.Linear(26, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
        for _ in range(200):
            batch = subset[rng.integers(0, m, 64)]
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            logits = model(images[held_out])
            error = (logits.argmax(-1) != labels[held_out]).float().mean()
            print(m, seed, float(cross_entropy(logits, labels[held_out])), float(error))
"""

# Run by a forked process or a new interpreter: CPU seconds of its own until the losses of the first steps are there.
PROBE = """
import json, sys, time

def start(words):
    from scaling.devices.compilation import use_compilation_cache
    from scaling.specs.base import parse
    from scaling.specs.cell import Cell
    from scaling.tracking import Tracker
    from scaling.training.runner import train_cells

    class First(Tracker):
        def log(self, cell, rows):
            if not told:
                told.append(time.process_time())

    told = []
    use_compilation_cache()
    train_cells([parse(Cell, words[0], "cell")], tracker=First())
    print(json.dumps(told[0]), flush=True)

if __name__ == "__main__":
    start(sys.argv[1:])
"""


class Cost(NamedTuple):
    """Seconds of a process tree."""

    wall: float
    cpu: float


def time_command(command: list[str], folder: Path, cache: Path) -> Cost:
    """Returns what a command takes, with all the processes that it waits for.

    Args:
      command: the command.
      folder: that it runs in.
      cache: that it finds instead of the user's own.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{command} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def run_study(folder: Path, cache: Path, *words: str) -> Cost:
    """Returns what this project takes for a study in a new store."""
    shutil.rmtree(folder / "store", ignore_errors=True)
    command = [str(Path(sys.executable).with_name("scaling")), "run", "first.py", "--store", "store", *words]
    return time_command(command, folder, cache)


def compare(folder: Path, repeats: int) -> list[str]:
    """Returns the lines of the table of twelve cells."""
    sides: dict[str, list[Cost]] = {"cold": [], "warm": [], "Flax": [], "PyTorch": []}
    cache, scripts = folder / "cache", {"Flax": "flax_script.py", "PyTorch": "torch_script.py"}
    for _ in range(repeats):
        shutil.rmtree(cache, ignore_errors=True)
        sides["cold"].append(run_study(folder, cache))
        sides["warm"].append(run_study(folder, cache))
        for side, script in scripts.items():
            sides[side].append(time_command([sys.executable, script], folder, cache))
    costs = {side: Cost(*map(statistics.median, zip(*found, strict=True))) for side, found in sides.items()}
    titles = {
        "cold": "this project, the first time on a machine", "warm": "this project, later",
        "Flax": "a plain Flax script", "PyTorch": "a plain PyTorch script",
    }  # fmt: skip
    lines = ["| side | wall s | × Flax | CPU s | × Flax |", "|---|---|---|---|---|"]
    for side, cost in costs.items():
        ratios = costs["Flax"].wall / cost.wall, costs["Flax"].cpu / cost.cpu
        print(side, cost, file=sys.stderr)
        lines.append(f"| {titles[side]} | {cost.wall:.1f} | {ratios[0]:.2f} | {cost.cpu:.1f} | {ratios[1]:.2f} |")
    return [*lines, ""]


@contextlib.contextmanager
def changed(**variables: str) -> Iterator[None]:
    """Sets variables of the environment while it is open."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def time_first_steps(folder: Path, repeats: int) -> list[str]:
    """Returns the lines on what a further worker takes to its first steps."""
    from launch.workers.forks import ForkServer, start_process
    from launch.workers.slots import Slot
    from scaling.specs.study import resolve_study

    cell, *_ = resolve_study(str(folder / "first.py")).cells.values()
    slot = Slot(frozenset({min(os.sched_getaffinity(0))}), {})
    found: dict[str, list[float]] = {"forked": [], "new": []}
    (folder / "first_steps.py").write_text(PROBE)
    path = f"{folder}:{os.environ.get('PYTHONPATH', '')}"
    with (
        changed(PYTHONPATH=path, XDG_CACHE_HOME=str(folder / "cache"), JAX_PLATFORMS="cpu"),
        ForkServer([cell]) as server,
    ):
        for _ in range(repeats + 1):
            for side, by in (("forked", server), ("new", None)):
                process = start_process(
                    "first_steps", [cell.canonical_json()], slot, subprocess.DEVNULL if by is None else 2, by
                )
                found[side].append(json.loads(process.stdout.readline()))
                process.wait()
                process.stdin.close()
                process.stdout.close()
    forked, new = (statistics.median(times[1:]) for times in found.values())  # the first ones have compiled
    return [
        f"A further worker has its first losses after {forked:.2f} CPU s where it is forked, and {new:.2f} as a new "
        f"interpreter: {new / forked:.1f} times as many.",
        "",
    ]


def measure_busy(folder: Path, num_cells: int, seconds: float) -> str:
    """Returns a line on how busy many short cells keep the cores.

    Args:
      folder: with the study.
      num_cells: how many.
      seconds: that each takes, about.
    """
    cache, alone = folder / "cache", ("--execution", "population=1")

    def run(num_steps: int, count: int) -> Cost:
        words = ("--set", f"num_steps={num_steps}", "--set", "sizes=[800]", "--set", f"num_seeds={count}")
        return run_study(folder, cache, *words, *alone)

    run(100, 2)  # compiles
    run(20_000, 1)
    (record,) = (json.loads(path.read_text()) for path in folder.glob("store/cells/*/record.json"))
    num_steps = max(1, int(seconds * 20_000 / record["train_seconds"]))
    cost = run(num_steps, num_cells)
    cores = len(os.sched_getaffinity(0))
    records = [json.loads(path.read_text()) for path in folder.glob("store/cells/*/record.json")]
    training = sum(record["train_seconds"] for record in records)
    each = statistics.median(record["train_seconds"] for record in records)
    return (
        f"| {num_cells} of {each:.2f} s | {cost.wall:.1f} | "
        f"{cost.cpu / cost.wall / cores:.0%} | {training / cost.wall / cores:.0%} |"
    )


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cells", type=int, nargs="+", default=[200, 600], help="of 0.1 and of 1 second")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {"first.py": STUDY, "flax_script.py": FLAX, "torch_script.py": TORCH}.items():
            (folder / file).write_text(text)
        lines = ["## Twelve cells", "", *compare(folder, options.repeats), *time_first_steps(folder, options.repeats)]
        lines += ["## Many short cells, one after another", ""]
        lines += ["| cells | wall s | cores busy | cores in the loop of steps |", "|---|---|---|---|"]
        lines += [measure_busy(folder, n, s) for n, s in zip(options.cells, (0.1, 1.0), strict=False)]
    lines += ["", "Start and end of the command are in all of these.", ""]
    print("\n".join(lines))
    if options.out:
        head = ["# The first result", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), ""]
        what = f"{describe_machine()}; medians of {options.repeats} turns."
        options.out.write_text("\n".join([*head, what, "", *lines]))


def describe_machine() -> str:
    """Returns the processor's name and the number of cores."""
    info: Any = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else 'an unknown processor'}"


if __name__ == "__main__":
    main()
