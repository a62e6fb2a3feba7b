"""Loss of language models against the amount of text m, for transformers of three sizes.

Question: how does the loss per byte fall with the number of sequences, and from which m on does a larger model pay?

Task: predict the next byte of UTF-8, or the boundary between documents, in sequences of equal length. Metric: `loss`,
in nats per byte, on documents that no model is trained on. m counts sequences; records count their bytes.

Command: `scaling run language`, then `scaling report runs/language`; or for another corpus

    scaling run language --set dataset=lm1b --store runs/language_lm1b

| dataset | text | needs |
| --- | --- | --- |
| stdlib | the standard library of the Python that runs it | nothing |
| lm1b | a tenth of the One Billion Word Benchmark | 1.7 GiB of download, and an accelerator |
| c4 | the first 400,000 pages of C4's English | C4 as TFDS prepares it, 807 GiB, and an accelerator |

The last two are read without TensorFlow from where TFDS has prepared them, a folder or a bucket that TFDS_DATA_DIR
names (docs/datasets.md). It takes a cluster to prepare C4; `TFDS_DATA_DIR=gs://BUCKET/FOLDER` reads it where it is.

Cost of stdlib: about four and a half minutes on two CPU cores. lm1b and c4 have not been run: their sizes and learning
rates are the usual ones for such models, tuned on nothing.

Expected of stdlib (four seeds, Python 3.11): from 200 kB of text to 1.6 MB the mean losses fall from 2.44 to 2.27 nats
per byte for the small model, from 2.16 to 1.95 for the medium one and from 2.09 to 1.84 for the large one, which is
ahead from the start. The exponents of a power law are 0.036, 0.049 and 0.061, with intervals that overlap. Seeds differ
by 0.1 nats at 200 kB, since a subset of so little text is a few files, and some files are odd.

Training is 2 epochs but at least 1,000 and at most 1,600 steps, so the loss at the largest m is that of one epoch, and
no model is trained until it stops improving: the exponents belong to this recipe.
"""

from typing import Literal, NamedTuple

from scaling import (
    AdamWSpec,
    Cell,
    DataSpec,
    DocumentsSpec,
    FitSpec,
    Series,
    StdlibDocuments,
    Study,
    TextSource,
    TfdsDocuments,
    TrainingSpec,
    TransformerSpec,
    ladder,
)


class Setting(NamedTuple):
    """What differs between the corpora.

    Attributes:
      documents: to train on.
      evaluation_documents: to evaluate on; None holds some of the others out.
      sequence_length: T.
      smallest, largest: m.
      networks: label → number of parameters and peak learning rate.
      batch_size: sequences a step.
      num_epochs, fewest_steps, most_steps: of training; the bounds rule.
      evaluation_size: sequences.
    """

    documents: DocumentsSpec
    evaluation_documents: DocumentsSpec | None
    sequence_length: int
    smallest: int
    largest: int
    networks: dict[str, tuple[int, float]]
    batch_size: int
    num_epochs: int
    fewest_steps: int
    most_steps: int
    evaluation_size: int


SETTINGS: dict[str, Setting] = {
    "stdlib": Setting(
        documents=StdlibDocuments(),
        evaluation_documents=None,
        sequence_length=64,
        smallest=3_200,
        largest=25_600,
        networks={
            "small transformer (8k)": (8_000, 1e-2),
            "medium transformer (25k)": (25_000, 6e-3),
            "large transformer (80k)": (80_000, 4e-3),
        },
        batch_size=16,
        num_epochs=2,
        fewest_steps=1_000,
        most_steps=1_600,
        evaluation_size=500,
    ),
    "lm1b": Setting(
        documents=TfdsDocuments(name="lm1b", split="train[:10%]"),
        evaluation_documents=TfdsDocuments(name="lm1b", split="test"),
        sequence_length=256,
        smallest=4_000,
        largest=1_024_000,
        networks={
            "small transformer (1M)": (1_000_000, 2e-3),
            "medium transformer (5M)": (5_000_000, 1e-3),
            "large transformer (25M)": (25_000_000, 6e-4),
        },
        batch_size=128,
        num_epochs=4,
        fewest_steps=4_000,
        most_steps=32_000,
        evaluation_size=10_000,
    ),
    "c4": Setting(
        documents=TfdsDocuments(name="c4/en", split="train[:400000]"),
        evaluation_documents=TfdsDocuments(name="c4/en", split="validation[:20000]"),
        sequence_length=512,
        smallest=4_000,
        largest=1_024_000,
        networks={
            "small transformer (5M)": (5_000_000, 1e-3),
            "medium transformer (20M)": (20_000_000, 6e-4),
            "large transformer (80M)": (80_000_000, 4e-4),
        },
        batch_size=128,
        num_epochs=4,
        fewest_steps=4_000,
        most_steps=32_000,
        evaluation_size=10_000,
    ),
}
Dataset = Literal["stdlib", "lm1b", "c4"]


def study(dataset: Dataset = "stdlib", largest: int | None = None, num_seeds: int = 4) -> Study:
    """Returns the study of a corpus; `--set largest=1600` and the like choose a smaller one."""
    setting = SETTINGS[dataset]
    source = TextSource(
        documents=setting.documents,
        evaluation_documents=setting.evaluation_documents,
        sequence_length=setting.sequence_length,
    )

    def cell(num_params: int, peak_lr: float, m: int, seed: int) -> Cell:
        num_steps = min(max(setting.num_epochs * m // setting.batch_size, setting.fewest_steps), setting.most_steps)
        return Cell(
            model=TransformerSpec(num_params=num_params),
            data=DataSpec(source=source, size=m, evaluation_size=setting.evaluation_size),
            training=TrainingSpec(
                optimizer=AdamWSpec(peak_lr=peak_lr, b2=0.95, weight_decay=0.1),
                batch_size=setting.batch_size,
                num_steps=num_steps,
            ),
            seed=seed,
        )

    sizes = ladder(setting.smallest, largest or setting.largest)
    return Study(
        name="language" if dataset == "stdlib" else f"language_{dataset}",
        question="How does the loss per byte fall with the amount of text, and when does a larger model pay?",
        metric="loss",
        fit=FitSpec(law="power", objective="huber", delta=0.05),
        series=tuple(
            Series(label=label, cells=tuple(cell(*network, m, seed) for m in sizes for seed in range(num_seeds)))
            for label, network in setting.networks.items()
        ),
    )
