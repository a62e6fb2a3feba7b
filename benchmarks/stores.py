"""Stores of many cells: this project's commands, the first time and later, beside a plain script over the records.

A store is made of one record of a small MLP with varied fields: five evaluations a cell, and the fields of its cell,
five of which vary. Each command is a process of its own, imports included, and takes its turns in order: `first` finds
no snapshot, `later` the one that `first` has left. `status` and `run`, which has nothing to do, find that snapshot too.
`plain script` is what one would write instead: pathlib, json and pandas over every `record.json`, to Parquet; it knows
neither labels nor fields of the cells, and does not check what it reads. Read CPU seconds: they count every thread and
bear a busy machine.

In a bucket, Google's real client asks the stand-in of the tests, which runs on the same cores and answers after 50 ms.
There the plain script lists and reads with fsspec, many objects at once; read seconds, and the number of requests.
"""

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

STEPS = (6, 13, 27, 57, 120)  # evaluations of a cell
TABLES = "table, first", "table, later"
LATENCY_SECONDS = 0.05  # of a bucket

STUDY = '''"""Many cells: widths, depths, learning rates, m and seeds."""

import itertools

from scaling import AdamWSpec, Cell, DataSpec, DigitsSource, MLPSpec, Series, Study, TrainingSpec


def study(count: int = {count}) -> Study:
    """Returns the study."""
    grid = itertools.product(range(count // 1000 + 1), range(20), range(5), range(10))
    cells = tuple(
        Cell(
            model=MLPSpec(width=8 * (1 + width), depth=1 + depth),
            data=DataSpec(source=DigitsSource(), size=100 + 50 * (seed // 10)),
            training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-3 * (1 + rate)), num_steps=120, batch_size=64),
            seed=seed,
        )
        for seed, width, depth, rate in itertools.islice(grid, count)
    )
    return Study(name="many", question="?", metric="error", series=(Series(label="mlp", cells=cells),))
'''

READ_FOLDER = """
import pathlib, sys

texts = (path.read_text() for path in sorted(pathlib.Path(sys.argv[1]).glob("cells/*/record.json")))
"""

READ_BUCKET = """
import sys
import fsspec

bucket = fsspec.filesystem("gs")
texts = bucket.cat(bucket.glob(f"{sys.argv[1]}/cells/*/record.json")).values()
"""

PLAIN = """
import json
import pandas as pd

rows = []
for text in texts:
    record = json.loads(text)
    same = {name: value for name, value in record.items() if not isinstance(value, (dict, list))}
    same |= {f"params_{name}": value for name, value in record["params"].items()}
    same |= {f"flops_{name}": value for name, value in record["flops"].items()}
    for evaluation in record["evaluations"]:
        metrics = evaluation.pop("metrics")
        rows.append({**same, **evaluation, **metrics})
pd.DataFrame(rows).to_parquet(sys.argv[2], index=False)
"""


class Cost(NamedTuple):
    """What a process took."""

    cpu: float
    wall: float
    memory_mb: float


def make_store(folder: Path, count: int) -> Path:
    """Returns the study's file beside a new store of so many complete cells."""
    from scaling.specs.study import resolve_study
    from scaling.store.store import Store

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "many.py"
    file.write_text(STUDY.format(count=count))
    study = resolve_study(str(file))
    store = Store(folder / "store")
    store.create(study.canonical_json())
    generator = random.Random(0)  # noqa: S311
    for name, cell in study.cells.items():
        path = folder / "store" / "cells" / name
        path.mkdir(parents=True, exist_ok=True)
        (path / "cell.json").write_text(cell.canonical_json())
        event = {"attempt": "aa036465b5b2", "host": "host", "pid": 1, "time": "2026-11-30T01:51:57.487+00:00"}
        ends = {"event": "start"}, {"event": "end", "outcome": "ok"}
        (path / "attempts.jsonl").write_text("".join(json.dumps(event | end) + "\n" for end in ends))
        record = json.dumps(make_record(name, cell, generator), sort_keys=True, separators=(",", ":"))
        (path / "record.json").write_text(record + "\n")
    return file


def make_record(name: str, cell: Any, generator: random.Random) -> dict[str, Any]:
    """Returns a record as a small MLP has left it, with numbers of its own."""
    model, size, batch = cell.model, cell.data.size, cell.training.batch_size
    params = {"hidden": 64 * model.width + (model.depth - 1) * model.width**2, "head": 10 * model.width}
    seen = batch * STEPS[-1]
    flops = {"hidden": 6.0 * params["hidden"] * seen, "logits": 6.0 * params["head"] * seen}
    evaluations = []
    for step in STEPS:
        loss = 0.3 + 2 * (step * batch) ** -0.3 * math.exp(generator.gauss(0, 0.1))
        metrics = {"accuracy": 1 - loss / 4, "error": loss / 4, "train_loss": loss * 0.9}
        spent = sum(flops.values()) * step / STEPS[-1]
        evaluations.append(
            {"data_seen": step * batch, "loss": loss, "metrics": metrics, "step": step, "train_flops": spent}
        )
    digest = "7993dd994e34e6d3d15ee0202ea178a712b803ace70d7978d0963f39c0b6ffea"
    data = {
        "class_counts": [size // 10] * 10, "digests": {"50": digest, str(size): digest}, "duplication": 0.0,
        "evaluation_sha256": digest, "evaluation_size": 100, "facts": {}, "in_evaluation": 0, "label_noise": 0.0,
        "num_noisy": 0, "num_unique": size, "order": "independent", "seed": cell.seed, "size": size,
        "source": "digits", "source_sha256": digest,
    }  # fmt: skip
    versions = ("flax 0.12.8", "jax 0.10.2", "jaxlib 0.10.2", "numpy 2.4.6", "python 3.11.7", "threads 2")
    return {
        "schema_version": 1, "cell": name, "family": "mlp", "seed": cell.seed, "status": "ok", "trunk": None,
        "num_params": sum(params.values()), "params": params, "data_unit": "examples", "data_unique": size,
        "epochs": seen / size, "flops": flops, "flops_version": 2, "train_flops_spent": sum(flops.values()),
        "evaluations": evaluations, "peak_lr": cell.training.optimizer.peak_lr, "batch_size": batch,
        "wall_seconds": generator.uniform(0.1, 0.9), "train_seconds": generator.uniform(0, 0.1),
        "waiting_seconds": None,
        "steps_to_target": None, "loss_spikes": 0, "execution": {}, "num_resumes": 0, "device_kind": "cpu",
        "num_devices": 1, "mfu": None, "data": data, "environment": dict(each.split() for each in versions),
        "warnings": [],
    }  # fmt: skip


def measure(words: Sequence[str]) -> Cost:
    """Returns what a process of this Python took.

    Raises:
      RuntimeError: it failed.
    """
    before = os.times()
    child = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(words[:6])} failed")
    return Cost(usage.ru_utime + usage.ru_stime, os.times().elapsed - before.elapsed, usage.ru_maxrss / 1024)


def main() -> None:
    """Prints the table; `--out` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=3, help="of what comes later; the first time is once")
    parser.add_argument("--folder", type=Path, help="where stores are made and left; by default a temporary one")
    parser.add_argument("--bucket", type=int, default=5_000, help="cells of the store in a bucket; 0 for none")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        lines = compare(place, options.cells, options.repeats)
        if options.bucket:
            lines += compare_in_bucket(place, options.bucket, options.repeats)
    print("\n".join(lines))
    if options.out:
        about = [part.strip().replace("\n", " ") for part in (__doc__ or "").split("\n\n")[1:]]
        options.out.write_text("\n".join(["# Stores", "", about[0], "", about[1], "", *lines]))


def compare(folder: Path, sizes: Sequence[int], repeats: int) -> list[str]:
    """Returns the lines of the table."""
    lines = [
        f"On {processor()}, {os.cpu_count()} cores.", "",
        "| cells | what | CPU s | wall s | memory MB | plain script's CPU over this |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for count in sizes:
        place = folder / str(count)
        file = place / "many.py" if (place / "store").exists() else make_store(place, count)
        costs = take_turns(file, place / "store", repeats)
        plain = costs["plain script"].cpu
        for what, cost in costs.items():
            took = f"{cost.cpu:.1f} | {cost.wall:.1f} | {cost.memory_mb:,.0f}"
            lines.append(f"| {count:,} | {what} | {took} | {plain / cost.cpu:.1f} |")
    return [*lines, "", f"Medians of {repeats} turns; what has not been there before, once.", ""]


def take_turns(file: Path, store: Path, repeats: int) -> dict[str, Cost]:
    """Returns what each command took."""
    import shutil

    cli, target = ["-P", "-m", "launch.cli"], str(store.parent / "table.parquet")
    table = [*cli, "table", str(store), "--to", target]
    later = {
        "plain script": ["-c", READ_FOLDER + PLAIN, str(store), target],
        TABLES[1]: table,
        "table, later, CSV to a pipe": [*cli, "table", str(store)],
        "status": [*cli, "status", str(store)],
        "run, nothing to do": [*cli, "run", str(file), "--store", str(store)],
    }
    shutil.rmtree(store / "snapshot", ignore_errors=True)
    costs = {TABLES[0]: measure(table)}
    for what, words in later.items():
        turns = [measure(words) for _ in range(repeats)]
        costs[what] = Cost(*(statistics.median(column) for column in zip(*turns, strict=True)))
        print(what, costs[what], file=sys.stderr)
    return costs


def compare_in_bucket(folder: Path, count: int, repeats: int) -> list[str]:
    """Returns the lines of the table of a store in a bucket."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.launch.engines.gcs_server import GcsServer, Object

    place = folder / str(count)
    if not (place / "store").exists():
        make_store(place, count)
    files = [path for path in (place / "store").rglob("*") if path.is_file() and "snapshot" not in path.parts]
    target, cli = str(place / "table.parquet"), ["-P", "-m", "launch.cli"]
    table = [*cli, "table", "gs://bucket/store", "--to", target]
    sides = {
        TABLES[0]: table,
        TABLES[1]: table,
        "status": [*cli, "status", "gs://bucket/store"],
        "plain script": ["-c", READ_BUCKET + PLAIN, "gs://bucket/store", target],
    }
    turns: dict[str, list[tuple[Cost, int]]] = {what: [] for what in sides}
    for _ in range(repeats):
        with GcsServer() as server:
            for path in files:
                name = f"store/{path.relative_to(place / 'store')}"
                server.objects["bucket"][name] = Object(path.read_bytes(), 1)
            server.latency_seconds = LATENCY_SECONDS
            for what, words in sides.items():
                before = len(server.requests)
                turns[what].append((measure(words), len(server.requests) - before))
                print(what, *turns[what][-1], file=sys.stderr)
    lines = [
        "", f"## {count:,} cells in a bucket", "",
        "| what | wall s | requests | CPU s | plain script's wall over this |", "|---|---|---|---|---|",
    ]  # fmt: skip
    medians = {what: statistics.median(cost.wall for cost, _ in each) for what, each in turns.items()}
    for what, each in turns.items():
        cpu, requests = statistics.median(cost.cpu for cost, _ in each), statistics.median(n for _, n in each)
        ratio = medians["plain script"] / medians[what]
        lines.append(f"| {what} | {medians[what]:.1f} | {requests:,.0f} | {cpu:.1f} | {ratio:.1f} |")
    return [*lines, ""]


def processor() -> str:
    """Returns the processor's name, where the machine tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "an unknown processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


if __name__ == "__main__":
    main()
