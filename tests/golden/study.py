"""The study of the golden store: networks, estimators, a branch tree, a cell that diverges and one that fails."""

from scaling.specs.cell import Cell
from scaling.specs.data import DataSpec, DiabetesSource, DigitsSource, MarkovSource
from scaling.specs.models import (
    ConvNetSpec,
    LogisticRegressionSpec,
    MLPSpec,
    RandomForestSpec,
    RidgeSpec,
    TransformerSpec,
)
from scaling.specs.schedules import LinearSchedule, WSDSchedule
from scaling.specs.study import FitSpec, Series, Study, at_horizons
from scaling.specs.training import AdamWSpec, LionSpec, MuonSpec, SGDSpec, TrainingSpec


def study() -> Study:
    """Returns the study; that it trains in seconds is all that was asked of its results."""

    def digits(size: int) -> DataSpec:
        return DataSpec(source=DigitsSource(), size=size, evaluation_size=100)

    adamw = TrainingSpec(optimizer=AdamWSpec(peak_lr=0.01), batch_size=16, num_steps=20, num_evaluations=3)
    lion = TrainingSpec(
        optimizer=LionSpec(peak_lr=0.001, weight_decay=0.01),
        schedule=LinearSchedule(warmup_fraction=0.1, final_fraction=0.1),
        batch_size=16,
        num_steps=12,
        num_evaluations=2,
        ema_decay=0.9,
    )
    wild = TrainingSpec(optimizer=SGDSpec(peak_lr=1e30), batch_size=16, num_steps=20, num_evaluations=2)
    trunk = TrainingSpec(
        optimizer=MuonSpec(peak_lr=0.02),
        schedule=WSDSchedule(warmup_steps=2, decay_fraction=0.25),
        batch_size=8,
        num_steps=12,
        num_evaluations=2,
    )
    language = DataSpec(
        source=MarkovSource(vocab_size=16, sequence_length=8, num_sequences=400), size=64, evaluation_size=50
    )
    small = tuple(
        Cell(model=MLPSpec(num_params=1_000), data=digits(size), training=adamw, seed=seed)
        for size in (50, 100)
        for seed in range(2)
    )
    series = {
        "logistic regression": tuple(
            Cell(model=LogisticRegressionSpec(), data=digits(size), seed=seed)
            for size in (50, 100, 200)
            for seed in range(2)
        ),
        "random forest": (Cell(model=RandomForestSpec(num_trees=5), data=digits(100)),),
        "ridge": (Cell(model=RidgeSpec(), data=DataSpec(source=DiabetesSource(), size=100, evaluation_size=100)),),
        "MLP": small,
        "MLP, 100 digits": small[2:],  # the same cells under another label
        "convnet": (Cell(model=ConvNetSpec(width=8), data=digits(100), training=lion),),
        "transformer": at_horizons(
            Cell(model=TransformerSpec(width=8, depth=1), data=language, training=trunk), (8, 12)
        ),
        "too fast": (Cell(model=MLPSpec(width=8, normalization="layer"), data=digits(50), training=wild),),
        "one digit": (Cell(model=LogisticRegressionSpec(), data=digits(1)),),  # no linear model fits one class
    }
    return Study(
        name="golden",
        question="Is what was written before still read, and written alike?",
        metric="loss",
        fit=FitSpec(law="power_floor", smallest_size=2),
        series=tuple(Series(label=label, cells=cells) for label, cells in series.items()),
    )
