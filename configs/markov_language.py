"""Loss against m on a language of known entropy: what a fitted irreducible loss E should be is known to every digit.

Question: does the fitted E find the entropy of the language, and which networks stay above it?

Task: predict the next of 32 tokens, where each token decides by itself how likely every next one is: a Zipf law over
the vocabulary in an order of the token's own (`MarkovSource`). An example is a sequence of 32 predictions; m counts
sequences. Nothing but the last token helps, so the best loss is the entropy of that Zipf law, 2.8759 nats per token
(`scaling.data.sources.synthetic.entropy`; the uniform guess costs ln 32 = 3.4657).

Theory: a table of all 32 · 31 free probabilities, fitted by maximum likelihood, is above the entropy by half a nat for
each of them, divided by the tokens seen: 496 / (32 m), an exponent of 1 (Akaike 1974). A network that shares what it
learns among tokens can do better, one that cannot hold the table goes flat above the entropy.

Command: `scaling run markov_language`, then `scaling report runs/markov_language`.
Cost: under two minutes on two CPU cores.

Expected: the two large networks extrapolate to E = 2.879, with 95 % intervals (2.864 to 2.889 the LSTM, 2.864 to 2.893
the transformer) that hold the entropy, although their best losses are still 0.015 and 0.006 nats above it. The small
LSTM's interval, 2.881 to 2.904, lies above it: 16 units do not hold the table. The small transformer, first at the
smallest m, is overtaken by the large one, which ends within a factor of 1.5 of the maximum-likelihood table.

How the networks are trained: AdamW, a number of steps that grows as √m, from 140 to 800, a cosine schedule, and a
weight decay that falls as 1 / m, as a prior of fixed strength does against the summed loss. Both were chosen by hand on
one seed at four m, so the exponents belong to this recipe.
"""

import math

from scaling import (
    AdamWSpec,
    Cell,
    DataSpec,
    FitSpec,
    LSTMSpec,
    MarkovSource,
    ModelSpec,
    Series,
    Study,
    TrainingSpec,
    TransformerSpec,
    ladder,
)

SOURCE = MarkovSource(vocab_size=32, zipf_exponent=1.0, order=1, sequence_length=32, num_sequences=5_000)
NETWORKS: dict[str, tuple[ModelSpec, float]] = {  # label: model, peak learning rate
    "transformer (4k)": (TransformerSpec(width=16, depth=1), 1e-2),
    "transformer (54k)": (TransformerSpec(width=64, depth=1), 1e-2),
    "LSTM (3k)": (LSTMSpec(width=16, depth=1), 2e-2),
    "LSTM (37k)": (LSTMSpec(width=64, depth=1), 1e-2),
}
PRIOR = 500  # times 1 / m is the weight decay


def study(largest: int = 4_096, num_seeds: int = 3, evaluation_size: int = 2_000) -> Study:
    """Returns the study; `--set largest=512` and the like choose smaller ones."""

    def training(size: int, peak_lr: float) -> TrainingSpec:
        optimizer = AdamWSpec(peak_lr=peak_lr, weight_decay=PRIOR / size)
        return TrainingSpec(optimizer=optimizer, batch_size=32, num_steps=round(12.5 * math.sqrt(size)))

    return Study(
        name="markov_language",
        question="Does the fitted irreducible loss find the entropy of the language?",
        metric="loss",
        fit=FitSpec(law="power_floor", objective="huber", delta=0.01),
        series=tuple(
            Series(
                label=label,
                cells=tuple(
                    Cell(
                        model=model,
                        data=DataSpec(source=SOURCE, size=size, evaluation_size=evaluation_size),
                        training=training(size, peak_lr),
                        seed=seed,
                    )
                    for size in ladder(128, largest)
                    for seed in range(num_seeds)
                ),
            )
            for label, (model, peak_lr) in NETWORKS.items()
        ),
    )
