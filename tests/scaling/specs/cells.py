"""Two cells that the tests of specifications change: a network and a forest."""

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, StdlibSource
from scaling.specs.models import MLPSpec, RandomForestSpec
from scaling.specs.training import AdamWSpec, TrainingSpec

MLP = Cell(
    model=MLPSpec(num_params=1_000),
    data=DataSpec(source=StdlibSource(), size=100),
    training=TrainingSpec(optimizer=AdamWSpec(peak_lr=3e-3, weight_decay=0.1), num_steps=10),
    seed=3,
)
FOREST = Cell(model=RandomForestSpec(), data=DataSpec(source=DigitsSource(), size=100))
