"""Cells that several tests of training use, and what they can reach."""

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DigitsSource, StdlibSource
from scaling.specs.models import MLPSpec
from scaling.specs.training import AdamWSpec, TrainingSpec

STDLIB = StdlibSource(num_windows=6000)


# Saying the most frequent class errs on nine digits of ten, and on about 45 % of the library's characters.
SIZES = {"digits": 300, "stdlib": 4000}
BEATABLE = {"digits": 0.3, "stdlib": 0.4}


def classical(model, source=None, size=300, **changes) -> Cell:
    data = DataSpec(source=source or DigitsSource(), size=size, evaluation_size=400)
    return Cell(**{"model": model, "data": data, **changes})


def network(size=300, source=None, num_steps=200, peak_lr=1e-2, **changes) -> Cell:
    return Cell(
        model=MLPSpec(num_params=3000, embedding_width=4),
        data=DataSpec(source=source or DigitsSource(), size=size, evaluation_size=400),
        training=TrainingSpec(optimizer=AdamWSpec(peak_lr=peak_lr), batch_size=32, num_steps=num_steps),
        **changes,
    )
