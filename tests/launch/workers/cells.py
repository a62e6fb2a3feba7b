"""Small cells of one program, and how attempts at them ended."""

from scaling.specs.base import override
from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.store.attempts import read_attempts
from scaling.store.store import Store

CELL = Cell(
    model=MLPSpec(num_params=3000),
    data=DataSpec(source=DigitsSource(), size=100, evaluation_size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=1e-2), batch_size=32, num_steps=20, num_evaluations=2),
)


def cells(count: int) -> list[Cell]:
    return [override([CELL], [f"seed={seed}"])[0] for seed in range(count)]


def names(count: int) -> list[str]:
    return [cell.fingerprint() for cell in cells(count)]


def outcomes(store: Store, name: str) -> list[str]:
    return [attempt.outcome for attempt in read_attempts(store.cell_path(name)) if attempt.event == "end"]
