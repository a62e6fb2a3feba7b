"""Error of image classifiers against the number of labelled images m, for convolutional networks of three sizes.

Question: how fast does each network learn from more images, and from which m on does a larger one pay?

Command, for one of the datasets below, which come from TensorFlow Datasets (docs/datasets.md):

    scaling run images --set dataset=cifar10 --store runs/images_cifar10
    scaling report runs/images_cifar10

With `--set data.source.download=true`, what is missing is downloaded and prepared first, for which TFDS needs
TensorFlow; to train needs none. `TFDS_DATA_DIR=gs://BUCKET/FOLDER` reads what is prepared there, from every machine.
Where there is no TensorFlow, MNIST and CIFAR can be read from their own files: `--set data.source.kind=idx` or `cifar`.

| dataset | download | prepared | needs |
| --- | --- | --- | --- |
| mnist | 11 MiB | 21 MiB | |
| fashion_mnist | 29 MiB | 36 MiB | |
| cifar10, cifar100 | 162 and 161 MiB | 132 MiB each | an accelerator |
| caltech101 | 131 MiB | not stated | an accelerator |
| imagenet | by hand | 156 GiB | an account at image-net.org, and accelerators |

Cost: mnist and fashion_mnist take an hour or two on two CPU cores, reckoned from the cells up to m = 1,600. The others
have not been run: their sizes, steps and learning rates are the usual ones for such networks, tuned on nothing.

Expected of fashion_mnist (one seed was seen, up to m = 1,600): errors of 0.32, 0.33 and 0.35 at m = 100, the large
network first, and of 0.17, 0.18 and 0.20 at m = 1,600. So the larger network leads from the start, by little, and none
goes flat there; the question is what happens beyond.

Every network is a plain recipe, not tuned for each m: AdamW, a cosine schedule, some epochs within bounds on the steps,
and a weight decay that falls as 1 / m, as a prior of fixed strength does. So the exponents belong to this recipe.
"""

from typing import Literal, NamedTuple

from scaling import (
    AdamWSpec,
    AugmentationSpec,
    Cell,
    ConvNetSpec,
    DataSpec,
    FitSpec,
    ModelSpec,
    ResNetSpec,
    Series,
    Study,
    TfdsSource,
    TrainingSpec,
    ladder,
)

Dataset = Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "caltech101", "imagenet"]


class Setting(NamedTuple):
    """What differs between the datasets.

    Attributes:
      source: where the images are.
      smallest, largest: m.
      smallest_fitted: m from which on laws are fitted; below, no power law holds.
      evaluation_size: images.
      augmentation: of training images.
      networks: label → network.
      batch_size, num_epochs, fewest_steps, most_steps: of training; the bounds on steps rule.
    """

    source: TfdsSource
    smallest: int
    largest: int
    smallest_fitted: int
    evaluation_size: int
    augmentation: AugmentationSpec | None
    networks: dict[str, ModelSpec]
    batch_size: int = 128
    num_epochs: int = 20
    fewest_steps: int = 500
    most_steps: int = 4_000


CONVNETS: dict[str, ModelSpec] = {
    "small convnet (10k)": ConvNetSpec(num_params=10_000),
    "medium convnet (30k)": ConvNetSpec(num_params=30_000),
    "large convnet (100k)": ConvNetSpec(num_params=100_000),
}
SMALL_RESNETS: dict[str, ModelSpec] = {  # ResNet-20 of other widths; its own has 270k
    "small ResNet (30k)": ResNetSpec(num_params=30_000),
    "medium ResNet (120k)": ResNetSpec(num_params=120_000),
    "large ResNet (500k)": ResNetSpec(num_params=500_000),
}
LARGE_RESNETS: dict[str, ModelSpec] = {  # ResNet-18 of other widths; its own has 11.7M
    "small ResNet (700k)": ResNetSpec(form="imagenet", depth=2, num_params=700_000),
    "medium ResNet (3M)": ResNetSpec(form="imagenet", depth=2, num_params=3_000_000),
    "large ResNet (12M)": ResNetSpec(form="imagenet", depth=2, num_params=12_000_000),
}
GREY = Setting(
    source=TfdsSource(name="mnist"),
    smallest=100,
    largest=51_200,
    smallest_fitted=400,
    evaluation_size=10_000,
    augmentation=None,  # a mirrored digit is no digit
    networks=CONVNETS,
    most_steps=2_000,
)
CIFAR = Setting(
    source=TfdsSource(name="cifar10"),
    smallest=390,
    largest=49_920,
    smallest_fitted=780,
    evaluation_size=10_000,
    augmentation=AugmentationSpec(crop=4, flip=True),
    networks=SMALL_RESNETS,
    num_epochs=40,
    fewest_steps=1_000,
    most_steps=8_000,
)
SETTINGS: dict[str, Setting] = {
    "mnist": GREY,
    "fashion_mnist": GREY._replace(source=TfdsSource(name="fashion_mnist")),
    "cifar10": CIFAR,
    "cifar100": CIFAR._replace(source=TfdsSource(name="cifar100"), smallest_fitted=3_120),
    "caltech101": Setting(
        source=TfdsSource(name="caltech101", side=128),
        smallest=190,
        largest=3_040,  # of 30 of each class
        smallest_fitted=380,
        evaluation_size=5_000,
        augmentation=AugmentationSpec(flip=True),
        networks=LARGE_RESNETS,
        batch_size=64,
        num_epochs=60,
    ),
    "imagenet": Setting(
        source=TfdsSource(name="imagenet2012", evaluation_split="validation", side=224),
        smallest=10_000,
        largest=1_280_000,
        smallest_fitted=20_000,
        evaluation_size=50_000,
        augmentation=AugmentationSpec(flip=True),
        networks=LARGE_RESNETS,
        batch_size=256,
        num_epochs=30,
        fewest_steps=5_000,
        most_steps=150_000,
    ),
}
PRIOR = 1_000.0  # weight decay times m; at most 0.1


def study(dataset: Dataset = "mnist", largest: int | None = None, num_seeds: int = 3, peak_lr: float = 3e-3) -> Study:
    """Returns the study of a dataset; `--set largest=800` and the like choose a smaller one."""
    setting = SETTINGS[dataset]
    sizes = ladder(setting.smallest, largest or setting.largest)

    def cell(model: ModelSpec, m: int, seed: int) -> Cell:
        num_steps = min(max(setting.num_epochs * m // setting.batch_size, setting.fewest_steps), setting.most_steps)
        return Cell(
            model=model,
            data=DataSpec(
                source=setting.source,
                size=m,
                evaluation_size=setting.evaluation_size,
                augmentation=setting.augmentation,
                normalize=True,
            ),
            training=TrainingSpec(
                optimizer=AdamWSpec(peak_lr=peak_lr, weight_decay=min(0.1, PRIOR / m)),
                batch_size=setting.batch_size,
                num_steps=num_steps,
            ),
            seed=seed,
        )

    return Study(
        name=f"images_{dataset}",
        question="How fast do networks of three sizes learn from more images, and when does a larger one pay?",
        metric="error",
        fit=FitSpec(law="power_floor", objective="huber", delta=0.05, smallest_size=setting.smallest_fitted),
        series=tuple(
            Series(label=label, cells=tuple(cell(model, m, seed) for m in sizes for seed in range(num_seeds)))
            for label, model in setting.networks.items()
        ),
    )
