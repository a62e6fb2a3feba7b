"""Performance against the amount of labelled data m, for classical learners and for networks of three sizes.

Question: who is ahead at which m, who goes flat, and who keeps improving?

Task: given 16 characters of Python, is the one in the middle (the ninth) code, comment or string? The data is the
standard library of the Python that runs the study, split by file, so every machine has it. An error of 0.45 is chance
for somebody who always says "code".

Command: `scaling run performance_vs_data`, then `scaling report runs/performance_vs_data`; or `make demo` for both.
Cost: about two minutes on two CPU cores.

Expected: at m = 100 nobody is clearly ahead. Linear models go flat at an error near 0.23, and the small network near
0.19. The random forest does not go flat, and the large network still improves at the largest m.

How the networks are trained: AdamW, 20 epochs but at least 800 and at most 2,400 steps, a cosine schedule, and a
weight decay that falls as 1 / m, as a prior of fixed strength does against the summed loss; the large network has a
smaller learning rate and a stronger prior. These were chosen by hand on two seeds at a few m and are not tuned for each
m, so the exponents belong to this recipe. Laws are fitted from m = 400 on: below, most learners do little better than
guess, and no power law holds.
"""

from scaling import (
    AdamWSpec,
    Cell,
    DataSpec,
    FitSpec,
    LinearSVMSpec,
    LogisticRegressionSpec,
    MLPSpec,
    ModelSpec,
    RandomForestSpec,
    RBFSVMSpec,
    Series,
    StdlibSource,
    Study,
    TrainingSpec,
    ladder,
)

CLASSICAL: dict[str, tuple[ModelSpec, int]] = {  # label: model, largest m that its cost allows
    "logistic regression": (LogisticRegressionSpec(), 51_200),
    "linear SVM": (LinearSVMSpec(), 51_200),
    "RBF SVM": (RBFSVMSpec(), 1_600),
    "random forest": (RandomForestSpec(num_trees=50), 51_200),
}
NETWORKS = {  # label: model, peak learning rate, strength of the prior
    "small MLP (1k)": (MLPSpec(num_params=1_000, embedding_width=4), 1e-2, 4_000),
    "medium MLP (10k)": (MLPSpec(num_params=10_000, embedding_width=8), 1e-2, 4_000),
    "large MLP (100k)": (MLPSpec(num_params=100_000, embedding_width=32), 5e-3, 16_000),
}


def study(largest: int = 51_200, num_seeds: int = 4, evaluation_size: int = 10_000) -> Study:
    """Returns the study; `--set largest=800` and the like choose smaller ones."""
    sizes = ladder(100, largest)
    seeds = range(num_seeds)

    def data(size: int) -> DataSpec:
        return DataSpec(source=StdlibSource(), size=size, evaluation_size=evaluation_size)

    def training(size: int, peak_lr: float, prior: float) -> TrainingSpec:
        num_steps = min(max(20 * size // 128, 800), 2_400)
        return TrainingSpec(
            optimizer=AdamWSpec(peak_lr=peak_lr, weight_decay=min(1.0, prior / size)), num_steps=num_steps
        )

    classical = [
        Series(
            label=label, cells=tuple(Cell(model=model, data=data(m), seed=s) for m in sizes if m <= most for s in seeds)
        )
        for label, (model, most) in CLASSICAL.items()
    ]
    networks = [
        Series(
            label=label,
            cells=tuple(
                Cell(model=model, data=data(m), training=training(m, lr, prior), seed=s) for m in sizes for s in seeds
            ),
        )
        for label, (model, lr, prior) in NETWORKS.items()
    ]
    return Study(
        name="performance_vs_data",
        question="Who is ahead at which amount of labelled data, who goes flat, and who keeps improving?",
        metric="error",
        fit=FitSpec(law="power_floor", objective="huber", delta=0.05, smallest_size=400),
        series=(*classical, *networks),
    )
