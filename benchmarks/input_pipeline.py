"""Input pipelines side by side: this project's stream, Grain as its tutorials use it, and a plain PyTorch DataLoader.

Each reads the same shuffled examples in the same batches, alone and while a network trains on them, in one process tree
and in turns, so that a busy machine slows all of them alike. In training the others' batches are stacked into the
chunks of steps that this project's loop takes, and carried to the device while it works. Read the ratios. `make bench`
writes the table to benchmarks/input_pipeline.md; it needs PyTorch (`pip install -e .[bench]`).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import torch.utils.data

from scaling.data.feeding.placement import DeviceData, Standard, StreamedData
from scaling.data.feeding.stream import plan_chunks, steps_per_chunk, stream_chunks
from scaling.data.order.subsets import Subset, draw_subset
from scaling.data.source import Source
from scaling.data.text.packing import MappedArray, PackedSequences
from scaling.learning.step import make_hyper
from scaling.models.registry import make_shape
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec, NetworkSpec, TransformerSpec
from scaling.specs.task import TaskShape, token_task
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training.loop import Pace, Place, Watcher, plan_legs, run_job
from scaling.training.program import Program, get_program

Batches = Iterator[tuple[np.ndarray, np.ndarray]]
SEED = 0


class PerExample:
    """Examples one by one, as Grain and PyTorch ask for them."""

    def __init__(self, subset: Subset) -> None:
        self.rows = subset.rows
        self.labels = np.zeros(subset.size, np.int32) if subset.labels is None else subset.labels
        self.is_array = isinstance(subset.rows, np.ndarray)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = self.rows[index] if self.is_array else self.rows[index : index + 1][0]
        return row, self.labels[index]


def read_stream(subset: Subset, batch_size: int, num_steps: int) -> Batches:
    """Yields batches of this project's stream."""
    plan = plan_chunks([num_steps], 0, steps_per_chunk(subset, batch_size))
    for chunk in stream_chunks(subset, plan, batch_size, SEED):
        yield from zip(chunk["inputs"], chunk["labels"], strict=True)


def read_grain(subset: Subset, batch_size: int, num_steps: int) -> Batches:
    """Yields batches of Grain with its defaults: 16 threads, 500 elements ahead."""
    dataset = grain.MapDataset.source(PerExample(subset)).shuffle(seed=SEED).repeat().batch(batch_size)
    reading = iter(dataset.to_iter_dataset())
    for _ in range(num_steps):
        yield next(reading)


def read_torch(subset: Subset, batch_size: int, num_steps: int) -> Batches:
    """Yields batches of a plain PyTorch DataLoader: shuffled, in this process, as tensors."""
    loader = torch.utils.data.DataLoader(PerExample(subset), batch_size, shuffle=True, drop_last=True)
    done = 0
    while True:
        for inputs, labels in loader:
            if done == num_steps:
                return
            yield inputs.numpy(), labels.numpy()
            done += 1


READERS: dict[str, Callable[[Subset, int, int], Batches]] = {
    "stream": read_stream,
    "Grain, defaults": read_grain,
    "PyTorch DataLoader": read_torch,
}


def images() -> Subset:
    """Returns 60,000 grey images of 28 × 28 in memory, like Fashion-MNIST."""
    generator = np.random.default_rng(0)
    inputs = generator.integers(0, 256, (60_000, 784)).astype(np.uint8)
    labels = generator.integers(0, 10, 60_000).astype(np.int32)
    source = Source("images", inputs, labels, inputs[:1], labels[:1], 10, unit=1 / 255, image_shape=(28, 28, 1))
    return draw_subset(DataSpec(source=DigitsSource(), size=60_000), source, SEED)


def text(folder: Path, num_tokens: int = 50_000_000, length: int = 256) -> Subset:
    """Returns sequences of memory-mapped text: documents of about 1,000 tokens, packed in a seed's order."""
    generator = np.random.default_rng(0)
    tokens, ends = folder / "tokens", folder / "ends"
    generator.integers(0, 257, num_tokens).astype(np.uint16).tofile(tokens)
    cuts = np.append(generator.integers(1, num_tokens, num_tokens // 1000), num_tokens)
    np.unique(cuts).astype(np.int64).tofile(ends)
    rows = PackedSequences(MappedArray(tokens, np.uint16), MappedArray(ends, np.int64), length + 1, None, SEED, length)
    source = Source("text", rows, None, rows, None, 257, objective="next_token", vocab_size=257)
    return Subset(source, rows, None, np.arange(len(rows)), len(rows))


def time_reading(name: str, subset: Subset, batch_size: int, num_steps: int) -> float:
    """Returns examples a second, reading alone."""
    batches = READERS[name](subset, batch_size, num_steps + 1)
    next(batches)  # threads have started
    start = time.perf_counter()
    for _ in batches:
        pass
    return num_steps * batch_size / (time.perf_counter() - start)


class Last(Watcher):
    """Keeps the state at the end."""

    place: Place

    def evaluate(self, place: Place) -> None:
        """Keeps the place."""
        self.place = place


def time_training(
    name: str, program: Program, training: TrainingSpec, subset: Subset, features: int, pace: Pace
) -> tuple[float, float]:
    """Returns (examples a second, share of the time spent waiting for data) while a network trains."""
    shift, scale = jnp.zeros(features), jnp.full(features, 1 / 255) if features else jnp.zeros(0)
    standard = Standard(shift, scale, jnp.float32(0.0), jnp.float32(1.0))
    batch_size, num_steps = training.batch_size, training.num_steps
    most = steps_per_chunk(subset, batch_size)

    def stacked(stops: Sequence[int], start: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the reader's batches as chunks."""
        batches = READERS[name](subset, batch_size, num_steps)
        for first, end in plan_chunks(stops, start, most):
            part = [next(batches) for _ in range(end - first)]
            yield {"inputs": np.stack([x for x, _ in part]), "labels": np.stack([y for _, y in part])}

    def streamed(stops: Sequence[int], start: int) -> Iterator[dict[str, np.ndarray]]:
        return stream_chunks(subset, plan_chunks(stops, start, most), batch_size, SEED)

    data: DeviceData | StreamedData
    if name == "resident":
        order = jnp.asarray(subset.order[:], jnp.int32)
        labels = jnp.zeros(subset.size, jnp.int8) if subset.labels is None else jnp.asarray(subset.labels)
        data = DeviceData(jnp.asarray(subset.rows[:]), labels, order, standard)
    else:
        data = StreamedData(streamed if name == "stream" else stacked, most, standard)
    hyper, last = make_hyper(training, subset.size, SEED), Last()
    start = time.perf_counter()
    place = Place(0, 0, program.init(hyper.seed), None)
    run_job(program, plan_legs([training]), [hyper], data, place, pace, last)
    jax.block_until_ready(last.place.state)
    seconds = time.perf_counter() - start
    waited = data.waiting_seconds if isinstance(data, StreamedData) else 0.0
    return num_steps * batch_size / seconds, waited / seconds


def compare(
    title: str,
    subset: Subset,
    task: TaskShape,
    model: NetworkSpec,
    batch_size: int,
    steps: tuple[int, int],
    repeats: int,
) -> list[str]:
    """Returns the lines of one table: reading alone, and in training."""
    unit = "tokens" if task.predicts_tokens else "examples"
    factor = task.num_features if task.predicts_tokens else 1
    alone: dict[str, list[float]] = {name: [] for name in READERS}
    for _ in range(repeats):
        for name, rates in alone.items():
            rates.append(factor * time_reading(name, subset, batch_size, steps[0]))
    training = TrainingSpec(
        optimizer=AdamWSpec(peak_lr=1e-3), batch_size=batch_size, num_steps=steps[1], num_evaluations=1
    )
    program = get_program(make_shape(model, task), training)
    features = 0 if task.vocab_size else task.num_features
    trained: dict[str, list[tuple[float, float]]] = {name: [] for name in ("resident", *READERS)}
    paces = {name: Pace() for name in trained}
    for round_ in range(repeats + 1):
        for name, rates in trained.items():
            rate, share = time_training(name, program, training, subset, features, paces[name])
            if round_:  # the first compiles
                rates.append((factor * rate, share))
    base, best = statistics.median(alone["PyTorch DataLoader"]), statistics.median(r for r, _ in trained["resident"])
    lines = [f"### {title}", ""]
    lines += [f"| pipeline | alone, {unit}/s | × DataLoader | in training, {unit}/s | × resident | waiting for data |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, results in trained.items():
        rate = statistics.median(r for r, _ in results)
        share = statistics.median(s for _, s in results)
        read = statistics.median(alone[name]) if name in alone else None
        columns = ("–", "–") if read is None else (f"{read:,.0f}", f"{read / base:.2f}")
        waiting = "–" if name == "resident" else f"{share:.0%}"
        lines.append(f"| {name} | {columns[0]} | {columns[1]} | {rate:,.0f} | {rate / best:.2f} | {waiting} |")
    return [*lines, ""]


def main() -> None:
    """Prints the tables; `--out` also writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = compare(
            "60,000 images of 28 × 28, batch 128; an MLP of 100,000 parameters",
            images(),
            TaskShape(784, None, 10, (28, 28, 1)),
            MLPSpec(num_params=100_000),
            128,
            (2000, 1000),
            options.repeats,
        )
        lines += compare(
            "Text, 50 million tokens memory-mapped, sequences of 256, batch 32; a transformer of 30,000 parameters",
            text(Path(folder)),
            token_task(257, 256),
            TransformerSpec(num_params=30_000, depth=2),
            32,
            (2000, 30),
            options.repeats,
        )
    print("\n".join(lines))
    if options.out:
        what = (
            f"{jax.devices()[0].device_kind}, {jax.local_device_count()} device(s); medians of {options.repeats} turns"
        )
        head = ["# Input pipelines", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), "", what + ".", ""]
        options.out.write_text("\n".join([*head, *lines]))


if __name__ == "__main__":
    main()
