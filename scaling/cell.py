"""The full specification of one training run: model, data, training and seed."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scaling.data.specs import DataSpec, Fraction
from scaling.models.specs import ModelSpec, NetworkSpec, Rate, since
from scaling.spec import InputError, Spec

NonNegative = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

# --- training -------------------------------------------------------------------------------------------------------


class SGDSpec(Spec):
    """Stochastic gradient descent with heavy-ball or Nesterov's momentum; `momentum` 0 is plain gradient descent."""

    kind: Literal["sgd"] = "sgd"
    peak_lr: PositiveFloat
    momentum: Rate = 0.9
    nesterov: bool = since(False)
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise InputError(
                "training.optimizer.nesterov=true has no effect with momentum=0.0; set momentum, or leave nesterov out"
            )
        return self


class AdamSpec(Spec):
    """Adam (Kingma & Ba 2014), without weight decay."""

    kind: Literal["adam"] = "adam"
    peak_lr: PositiveFloat
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: ClassVar[float] = 0.0


class AdamWSpec(Spec):
    """Adam with decoupled weight decay: each step multiplies the matrices by 1 − lr · weight_decay."""

    kind: Literal["adamw"] = "adamw"
    peak_lr: PositiveFloat
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class RMSPropSpec(Spec):
    """Gradients over √(mean square) + eps (Hinton 2012), then heavy-ball momentum; weight decay as in AdamW.

    `eps` stands outside the root, as in PyTorch and in Adam, and so is in the units of a gradient.
    """

    kind: Literal["rmsprop"] = "rmsprop"
    peak_lr: PositiveFloat
    decay: Rate = 0.9
    eps: PositiveFloat = 1e-8
    momentum: Rate = 0.0
    weight_decay: NonNegative = 0.0


class LionSpec(Spec):
    """The sign of an interpolated momentum (Chen et al. 2023); weight decay as in AdamW."""

    kind: Literal["lion"] = "lion"
    peak_lr: PositiveFloat
    b1: Rate = 0.9
    b2: Rate = 0.99
    weight_decay: NonNegative = 0.0


class MuonSpec(Spec):
    """Orthogonalised momentum for the hidden matrices (Jordan et al. 2024), Adam for all else; decay as in AdamW.

    Attributes:
      peak_lr: of both halves. An update of a hidden matrix has singular values near √max(1, fan_out / fan_in), one of
        Adam's has entries near 1.
      momentum: of the gradients of hidden matrices.
      newton_schulz_steps: iterations of the orthogonalisation.
      nesterov: whether the momentum looks ahead.
      b1, b2, eps: of Adam.
    """

    kind: Literal["muon"] = "muon"
    peak_lr: PositiveFloat
    momentum: Rate = 0.95
    newton_schulz_steps: PositiveInt = 5
    nesterov: bool = True
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


OptimizerSpec = Annotated[
    SGDSpec | AdamSpec | AdamWSpec | RMSPropSpec | LionSpec | MuonSpec, Field(discriminator="kind")
]


class ConstantSchedule(Spec):
    """Linear warm-up to the peak learning rate, then constant."""

    kind: Literal["constant"] = "constant"
    warmup_fraction: Fraction = 0.0


class CosineSchedule(Spec):
    """Linear warm-up to the peak learning rate, then a half cosine down to `final_fraction` of it."""

    kind: Literal["cosine"] = "cosine"
    warmup_fraction: Fraction = 0.05
    final_fraction: Fraction = 0.0


ScheduleSpec = Annotated[ConstantSchedule | CosineSchedule, Field(discriminator="kind")]


class LayerwiseSpec(Spec):
    """Greedy layer-wise pre-training of an MLP: each hidden layer first reconstructs its input (Bengio et al. 2006).

    Attributes:
      num_steps: of each layer, on batches like those of training.
      peak_lr: of plain gradient descent, constant.
      corruption: share of a layer's inputs set to 0, from which it reconstructs them all (Vincent et al. 2008).
    """

    num_steps: PositiveInt
    peak_lr: PositiveFloat
    corruption: Rate = 0.0


class TrainingSpec(Spec):
    """How a gradient-trained cell spends its steps.

    Attributes:
      optimizer: update rule with its peak learning rate and weight decay.
      schedule: shape of the learning rate over the run.
      batch_size: examples a step. Batches run on across epoch boundaries, so every batch is full, every example is seen
        once an epoch, and a batch larger than m holds several epochs.
      num_steps: optimiser steps.
      num_evaluations: evaluations on the fixed set, log-spaced in steps; the last one is at the end.
      pretraining: before the first step, for MLPs; its FLOPs count, its examples are not counted as seen.
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec = CosineSchedule()
    batch_size: PositiveInt = 128
    num_steps: PositiveInt
    num_evaluations: PositiveInt = 5
    pretraining: LayerwiseSpec | None = since(None)

    @model_validator(mode="after")
    def _positions_fit_32_bits(self) -> Self:
        if self.num_steps * self.batch_size >= 2**32:
            raise InputError(
                f"training.num_steps={self.num_steps} of batch_size={self.batch_size} see "
                f"{self.num_steps * self.batch_size} examples; choose fewer than 2**32 = {2**32}"
            )
        return self


class Cell(Spec):
    """One training run; equal cells have equal fingerprints on every machine and Python.

    Attributes:
      model: what is trained.
      data: on which examples.
      training: how; required for models trained by gradient descent, absent (None) for scikit-learn's.
      seed: draws the data permutation, the initial values and the batch order.
    """

    model: ModelSpec
    data: DataSpec
    training: TrainingSpec | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _training_fits_model(self) -> Self:
        by_gradient = isinstance(self.model, NetworkSpec)
        if by_gradient and self.training is None:
            raise InputError(f"training is missing, but {self.model.kind} is trained by gradient descent; set training")
        if not by_gradient and self.training is not None:
            raise InputError(f"training is set, but {self.model.kind} has its own solver; leave training out")
        return self
