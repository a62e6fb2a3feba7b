"""A small network, and cells that differ from it a little."""

from scaling.specs.base import override
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec

MLP = Cell(
    model=MLPSpec(num_params=3000),
    data=DataSpec(source=DigitsSource(), size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), num_steps=10),
)


def changed(*assignments: str) -> Cell:
    return override([MLP], assignments)[0]


def seeds(cell: Cell, count: int) -> list[Cell]:
    return [override([cell], [f"seed={seed}"])[0] for seed in range(count)]
