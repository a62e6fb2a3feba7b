"""A learning-rate × seed sweep of small MLPs: this project's populations beside plain Flax and plain PyTorch loops.

Every side trains the same eight members (four learning rates, two seeds) with AdamW on batches of 128 images of
8 × 8 or 28 × 28 that it draws from memory. The plain loops train one member after another, a call a step, as one would
write them. Sides take turns, each in a process of its own on the same cores, in one process tree; what is compiled has
been compiled before the clock starts. On two cores this project runs two workers, a core each, as its local engine
does. Read the ratios. `make bench` writes the table to benchmarks/populations.md; it needs PyTorch (`pip install -e
.[bench]`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

SIDES = ("ours", "flax", "torch")
RATES, SEEDS = (3e-4, 1e-3, 3e-3, 1e-2), (0, 1)
NUM_IMAGES, NUM_CLASSES, BATCH = 10_000, 10, 128


class Case(NamedTuple):
    """An MLP of two hidden layers of a width, on images of a side, for so many steps a member."""

    side: int
    width: int
    num_steps: int


CASES = (Case(8, 32, 1500), Case(28, 32, 1000), Case(28, 128, 500))


def make_images(side: int) -> tuple[Any, Any]:
    """Returns images [n, F] float32 and classes [n] int32 that can be learnt."""
    import numpy as np

    generator = np.random.default_rng(0)
    images = generator.normal(size=(NUM_IMAGES, side * side)).astype(np.float32)
    classes = np.argmax(images @ generator.normal(size=(side * side, NUM_CLASSES)), axis=1).astype(np.int32)
    return images, classes


def run_ours(case: Case, members: list[tuple[float, int]]) -> float:
    """Returns seconds of this project's trainer: the members as one population, by a measured execution."""
    import jax
    import numpy as np

    from scaling.data.loading import load_source
    from scaling.data.source import task_shape
    from scaling.data.sources.arrays import keep_arrays
    from scaling.models.registry import make_shape
    from scaling.specs.cell import Cell
    from scaling.specs.data import DataSpec
    from scaling.specs.models import MLPSpec
    from scaling.specs.training import AdamWSpec, TrainingSpec
    from scaling.training.calibration import candidates, measure
    from scaling.training.runner import train_cells

    images, classes = make_images(case.side)
    source = keep_arrays(images, classes)

    def cell(rate: float, seed: int, steps: int) -> Cell:
        optimizer = AdamWSpec(peak_lr=rate, weight_decay=0.01)
        training = TrainingSpec(optimizer=optimizer, batch_size=BATCH, num_steps=steps, num_evaluations=1)
        data = DataSpec(source=source, size=NUM_IMAGES - 200, evaluation_size=100)
        return Cell(model=MLPSpec(width=case.width, depth=2), data=data, training=training, seed=seed)

    cells = [cell(rate, seed, case.num_steps) for rate, seed in members]
    shape = make_shape(cells[0].model, task_shape(load_source(cells[0].data)))
    speeds = {execution: measure(cells[0], shape, execution).steps for execution in candidates(shape, len(cells))}
    best = max(speeds, key=speeds.__getitem__)
    together = [cells[i : i + best.population] for i in range(0, len(cells), best.population)]
    train_cells([cell(rate, seed, 20) for rate, seed in members[: best.population]], execution=best)  # compiles
    began = time.perf_counter()
    for job in together:
        records = train_cells(job, execution=best)
        assert all(np.isfinite(record.evaluations[-1].loss) for record in records)  # noqa: S101
    print(f"{best.population} together, {jax.device_count()} device(s)", file=sys.stderr)
    return time.perf_counter() - began


def run_flax(case: Case, members: list[tuple[float, int]]) -> float:
    """Returns seconds of plain Flax and optax: a jitted step, called with a batch from the host."""
    import flax.linen as nn
    import jax
    import numpy as np
    import optax
    from flax.training.train_state import TrainState

    class MLP(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            for _ in range(2):
                x = nn.relu(nn.Dense(case.width)(x))
            return nn.Dense(NUM_CLASSES)(x)

    images, classes = make_images(case.side)
    model = MLP()

    @jax.jit
    def step(state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            logits = state.apply_fn({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, gradients = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=gradients), value

    def train(rate: float, seed: int, steps: int) -> None:
        generator = np.random.default_rng(seed)
        params = model.init(jax.random.key(seed), images[:1])["params"]
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, case.num_steps // 20, case.num_steps)
        state = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adamw(schedule, weight_decay=0.01))
        value = None
        for _ in range(steps):
            chosen = generator.integers(0, NUM_IMAGES - 200, BATCH)
            state, value = step(state, images[chosen], classes[chosen])
        jax.block_until_ready((state, value))

    # A schedule is a constant of the compiled code, so that plainly each learning rate compiles anew; not counted here.
    for rate in dict.fromkeys(rate for rate, _ in members):
        train(rate, 0, 20)
    began = time.perf_counter()
    for rate, seed in members:
        train(rate, seed, case.num_steps)
    return time.perf_counter() - began


def run_torch(case: Case, members: list[tuple[float, int]]) -> float:
    """Returns seconds of plain PyTorch: eager, a step at a time."""
    import torch
    from torch import nn

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    images, classes = (torch.from_numpy(array) for array in make_images(case.side))
    classes = classes.long()

    def train(rate: float, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        layers = [nn.Linear(case.side**2, case.width), nn.ReLU(), nn.Linear(case.width, case.width), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(case.width, NUM_CLASSES))
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, case.num_steps)
        for _ in range(steps):
            chosen = torch.randint(0, NUM_IMAGES - 200, (BATCH,))
            loss = nn.functional.cross_entropy(model(images[chosen]), classes[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()

    train(members[0][0], 0, 20)
    began = time.perf_counter()
    for rate, seed in members:
        train(rate, seed, case.num_steps)
    return time.perf_counter() - began


def time_side(side: str, number: int, cores: int) -> float:
    """Returns member-steps a second of a side, in processes of its own."""
    members = [(rate, seed) for rate in RATES for seed in SEEDS]
    visible = sorted(os.sched_getaffinity(0))[:cores]
    shares = [[core] for core in visible] if side == "ours" else [visible]
    parts = [members[number :: len(shares)] for number in range(len(shares))]
    children = []
    for share, part in zip(shares, parts, strict=True):
        command = [sys.executable, __file__, "--side", side, "--case", str(number), "--members", json.dumps(part)]
        pin = lambda share=share: os.sched_setaffinity(0, share)  # noqa: E731
        environment = {**os.environ, "OMP_NUM_THREADS": str(len(share)), "JAX_PLATFORMS": "cpu"}
        children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, preexec_fn=pin))  # noqa: PLW1509
    seconds = max(float(child.communicate()[0].strip().splitlines()[-1]) for child in children)
    return len(members) * CASES[number].num_steps / seconds


def compare(cores: int, repeats: int) -> list[str]:
    """Returns the lines of the table for a number of cores."""
    lines = [f"### {cores} core{'s' if cores > 1 else ''}", ""]
    lines += ["| MLP, two hidden layers | this project | plain Flax | plain PyTorch | × Flax | × PyTorch |"]
    lines += ["|---|---|---|---|---|---|"]
    for number, case in enumerate(CASES):
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(repeats):
            for side in SIDES:
                rates[side].append(time_side(side, number, cores))
        ours, flax, torch = (statistics.median(rates[side]) for side in SIDES)
        name = f"{case.side} × {case.side}, width {case.width}"
        row = f"| {name} | {ours:,.0f} | {flax:,.0f} | {torch:,.0f} | {ours / flax:.2f} | {ours / torch:.2f} |"
        lines.append(row)
        print(row, file=sys.stderr)
    return [*lines, ""]


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=SIDES, help="train one side here and print its seconds")
    parser.add_argument("--case", type=int, default=0, help="which of CASES")
    parser.add_argument("--members", type=json.loads, default=[[1e-3, 0]])
    options = parser.parse_args()
    if options.side:
        run = {"ours": run_ours, "flax": run_flax, "torch": run_torch}[options.side]
        print(run(CASES[options.case], [(rate, seed) for rate, seed in options.members]))
        return
    lines = [line for cores in options.cores for line in compare(cores, options.repeats)]
    print("\n".join(lines))
    if options.out:
        head = ["# Populations", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), ""]
        what = f"Member-steps a second; medians of {options.repeats} turns."
        options.out.write_text("\n".join([*head, what, "", *lines]))


if __name__ == "__main__":
    main()
