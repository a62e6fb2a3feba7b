"""What one finished cell measured: evaluations, counts, the proof of what it saw."""

from typing import Any, Literal

from pydantic import Field

from scaling.specs.base import Spec, since
from scaling.specs.metrics import MetricFacts
from scaling.specs.models import ParamConvention


class CorruptStoreError(ValueError):
    """A file of the store does not say what it should; the message names the file and the remedy."""


class Evaluation(Spec):
    """The fixed evaluation set's verdict at one step of a run.

    Attributes:
      step: optimiser steps done; None for models without steps.
      data_seen: examples seen so far, repeats counted.
      train_flops: training FLOPs a standalone run has spent so far; None where they are not counted.
      loss: mean negative log-likelihood in nats; None for models without probabilities, or when not finite.
      metrics: the task's metrics by name, for instance `accuracy` and `error`.
    """

    step: int | None
    data_seen: int
    train_flops: float | None
    loss: float | None
    metrics: dict[str, float]


class EvaluationManifest(Spec):
    """What a further evaluation set was.

    Attributes:
      name: before its columns.
      source: the data's name.
      size: its number of examples.
      sha256: hash of its inputs and labels.
      in_evaluation: training examples that have the inputs of one of its examples; None where this was not looked for.
    """

    name: str
    source: str
    size: int
    sha256: str
    in_evaluation: int | None


class SubsetManifest(Spec):
    """Proof of what a cell saw.

    Attributes:
      source: the data's name.
      source_sha256: hash of all training inputs and labels of the source, in its own order.
      order: how the permutation was drawn.
      seed: its seed.
      size: m.
      digests: for m and each smaller size of the study, the sha256 of the first so many indices. Subset 100 is nested
        in subset 200 when both records hold the same digest for 100.
      class_counts: examples of each class among the m, as they are labelled; empty where there are no classes.
      evaluation_size: examples of the evaluation set.
      evaluation_sha256: hash of its inputs and labels.
      num_unique: distinct examples among the m; None in records before it was counted, which had no others.
      label_noise, num_noisy: share of labels changed, as asked for, and how many were.
      duplication: share of examples that repeat another.
      in_evaluation: examples that are other rows than the evaluation set's, yet have the same inputs as one of them;
        None where this was not looked for.
      facts: what the source tells of itself: numbers of documents and tokens, of examples passed over, versions.
      evaluation_sets: those beside the fixed one.
      metrics: the user's metrics that were measured.
    """

    source: str
    source_sha256: str
    order: str
    seed: int
    size: int
    digests: dict[str, str]
    class_counts: tuple[int, ...]
    evaluation_size: int
    evaluation_sha256: str
    num_unique: int | None = None
    label_noise: float = 0.0
    num_noisy: int = 0
    duplication: float = 0.0
    in_evaluation: int | None = None
    facts: dict[str, int | float | str] = Field(default_factory=dict)
    evaluation_sets: tuple[EvaluationManifest, ...] = since(())
    metrics: tuple[MetricFacts, ...] = since(())

    def is_prefix_of(self, larger: "SubsetManifest") -> bool:
        """Returns whether the two manifests prove that this subset is the beginning of the larger one.

        The proof needs the larger record to hold a digest at this size, which it does for all sizes of its study.
        """
        same_pool = self.source_sha256 == larger.source_sha256
        return same_pool and self.digests[str(self.size)] == larger.digests.get(str(self.size))


class Record(Spec):
    """What one finished cell measured; the only thing the analysis reads.

    Counts are raw: parameters by named group, training FLOPs of the whole run by named term, also those that
    `train_flops` leaves out (lookups as products, softmax, norms: see `scaling.models.counting.flops.DEFAULT`).
    `num_params` is N as the cell's model asked for it to be counted, which `num_params_convention` names; the total is
    the sum of `params`. Fields are None where a family has no such count; `flops_version` names the accounting.
    `data_unique` and what was seen are in `data_unit`s, so `epochs` above 1 says that data was repeated.
    `waiting_seconds` is how long, at most, the device had nothing to do because streamed data had not been read; None
    where data was resident.

    Cells that were trained together share the time of their job, so that seconds add up: `wall_seconds` is a cell's
    share. `price_per_hour` is the list price, in dollars, of the devices of its job at the time; None where that is not
    known. A leaf of a branch tree names its `trunk`, and `train_flops_spent` is what it added to the tree.
    `train_seconds` is the part of the time that optimiser steps took, without compilation and evaluation; `mfu` is of
    these, against the peak of the device kind where that is known. `steps_to_target` is None while `target_loss` is not
    reached; `loss_spikes` counts steps whose loss lay far above the ones before; `execution` says how the job was run,
    and `num_resumes` how often it went on from a checkpoint. `code` has what users' code the cell names was: the sha256
    of each file, and the version of each package.
    """

    schema_version: Literal[1] = 1
    cell: str
    family: str
    seed: int
    status: Literal["ok", "diverged"]
    trunk: str | None = None
    num_params: int | None
    num_params_convention: ParamConvention = since("total")
    params: dict[str, int]
    data_unit: Literal["examples", "tokens"]
    data_unique: int
    epochs: float
    flops: dict[str, float]
    flops_version: int
    train_flops_spent: float | None
    evaluations: tuple[Evaluation, ...] = Field(min_length=1)
    peak_lr: float | None
    batch_size: int | None
    wall_seconds: float
    price_per_hour: float | None = since(None)
    waiting_seconds: float | None = None
    train_seconds: float | None = None
    steps_to_target: int | None = None
    loss_spikes: int | None = None
    execution: dict[str, Any] | None = None
    num_resumes: int = 0
    device_kind: str
    num_devices: int
    mfu: float | None = None
    data: SubsetManifest
    environment: dict[str, str]
    warnings: tuple[str, ...] = ()
    code: dict[str, str] = since({})
