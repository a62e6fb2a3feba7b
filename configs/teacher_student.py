"""Error against m where theory knows the whole curve: a linear teacher with power-law spectra, and three students.

Question: do the exponents that the framework fits agree with those that theory gives, and does a network share them?

Task: 4,000 normal features of variances k^-1.5, and labels without noise to whose variance feature k adds ∝ k^-2
(`TeacherSource`). The loss is the squared error of labels of variance 1.

Theory (Bordelon, Canatar & Pehlevan 2020; `expected_error` of scaling/data/sources/synthetic.py): least squares of
minimum norm falls as m^-1, since min(target_exponent - 1, 2 · spectrum_exponent) = 1; from m = 25 to 400 the curve of
4,000 features is a little steeper, with 1.03. Ridge regression with a fixed λ = 10 learns only features of variance
above about λ / m, so it falls as m^-((target_exponent - 1) / spectrum_exponent) = m^-0.67; the curve between has 0.68.

Command: `scaling run teacher_student`, then `scaling report runs/teacher_student`.
Cost: half a minute on two CPU cores.

Expected: fitted exponents of 1.06 (95 %: 0.97 to 1.11) for least squares and of 0.69 (0.65 to 0.73) for ridge
regression, so that both intervals hold the theory's value. The network follows least squares with an exponent of 0.95
(0.88 to 1.03) and about twice the error: 0.0075 against 0.0038 at m = 400. No two of the three curves cross.

How the network is trained: gradient descent with momentum, 2,000 steps, far beyond the last change of its training
loss. Adam would scale every feature alike and so lose the spectrum: its error at m = 200 was eight times as large. The
learning rate was chosen by hand on one seed at three m.
"""

from scaling import (
    Cell,
    DataSpec,
    FitSpec,
    MLPSpec,
    ModelSpec,
    RidgeSpec,
    Series,
    SGDSpec,
    Study,
    TeacherSource,
    TrainingSpec,
    ladder,
)

SOURCE = TeacherSource(num_features=4_000, spectrum_exponent=1.5, target_exponent=2.0, num_examples=6_000)
STUDENTS: dict[str, tuple[ModelSpec, TrainingSpec | None]] = {
    "least squares": (RidgeSpec(regularization=0.0), None),
    "ridge (λ = 10)": (RidgeSpec(regularization=10.0), None),
    "MLP (width 32)": (
        MLPSpec(width=32),
        TrainingSpec(optimizer=SGDSpec(peak_lr=0.1), batch_size=25, num_steps=2_000),
    ),
}


def study(largest: int = 400, num_seeds: int = 8, evaluation_size: int = 5_000) -> Study:
    """Returns the study; `--set largest=100` and the like choose smaller ones."""
    return Study(
        name="teacher_student",
        question="Do fitted exponents agree with those that theory gives, and does a network share them?",
        metric="loss",
        fit=FitSpec(law="power", objective="huber", delta=0.1),
        series=tuple(
            Series(
                label=label,
                cells=tuple(
                    Cell(
                        model=model,
                        data=DataSpec(source=SOURCE, size=size, evaluation_size=evaluation_size),
                        training=training,
                        seed=seed,
                    )
                    for size in ladder(25, largest)
                    for seed in range(num_seeds)
                ),
            )
            for label, (model, training) in STUDENTS.items()
        ),
    )
