"""How a cell is trained: optimiser, schedule, batches and steps, evaluations, pre-training."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from scaling.specs.base import InputError, Rate, Spec, since
from scaling.specs.code import CodeReference, FrozenSettings, Settings
from scaling.specs.schedules import CosineSchedule, ScheduleSpec, WSDSchedule

NonNegative = Annotated[float, Field(ge=0.0)]

# How an optimiser's update answers the gradient's size: `gradient` descent follows it, `sign`-like ones divide it out
# entry by entry, `spectral` ones make a matrix's update orthogonal. Parametrisations go by it.
UpdateKind = Literal["gradient", "sign", "spectral"]


class SGDSpec(Spec):
    """Stochastic gradient descent with heavy-ball or Nesterov's momentum; `momentum` 0 is plain gradient descent."""

    kind: Literal["sgd"] = "sgd"
    update: ClassVar[UpdateKind] = "gradient"
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
    update: ClassVar[UpdateKind] = "sign"
    peak_lr: PositiveFloat
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: ClassVar[float] = 0.0


class AdamWSpec(Spec):
    """Adam with decoupled weight decay: each step multiplies the matrices by 1 − lr · weight_decay."""

    kind: Literal["adamw"] = "adamw"
    update: ClassVar[UpdateKind] = "sign"
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
    update: ClassVar[UpdateKind] = "sign"
    peak_lr: PositiveFloat
    decay: Rate = 0.9
    eps: PositiveFloat = 1e-8
    momentum: Rate = 0.0
    weight_decay: NonNegative = 0.0


class LionSpec(Spec):
    """The sign of an interpolated momentum (Chen et al. 2023); weight decay as in AdamW."""

    kind: Literal["lion"] = "lion"
    update: ClassVar[UpdateKind] = "sign"
    peak_lr: PositiveFloat
    b1: Rate = 0.9
    b2: Rate = 0.99
    weight_decay: NonNegative = 0.0


class MuonSpec(Spec):
    """Orthogonalised momentum for the hidden matrices (Jordan et al. 2024), Adam for all else; decay as in AdamW.

    Attributes:
      peak_lr: of both halves. An update of a hidden matrix has singular values near √max(1, fan_out / fan_in), one of
        Adam's has entries near 1.
      momentum: the momentum of the gradients of hidden matrices.
      newton_schulz_steps: iterations of the orthogonalisation.
      nesterov: whether the momentum looks ahead.
      b1, b2, eps: of Adam.
    """

    kind: Literal["muon"] = "muon"
    update: ClassVar[UpdateKind] = "spectral"
    peak_lr: PositiveFloat
    momentum: Rate = 0.95
    newton_schulz_steps: PositiveInt = 5
    nesterov: bool = True
    b1: Rate = 0.9
    b2: Rate = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class CodeOptimizerSpec(Spec):
    """Any optax optimiser, made for a learning rate of 1: the schedule, the peak and decoupled weight decay are ours.

    Attributes:
      code: `optax:adabelief`, `optax.contrib:ademamix`, or `name:make` of the user's own code: a function that returns
        a transformation whose updates are added, as those of `optax.adam(1.0)`.
      settings: arguments of the function; `learning_rate` is 1 where it takes one.
      update: how the update answers the gradient's size, which parametrisations go by.
    """

    kind: Literal["code"] = "code"
    code: CodeReference
    settings: Settings = FrozenSettings()
    update: UpdateKind = "sign"
    peak_lr: PositiveFloat
    weight_decay: NonNegative = 0.0


AnyOptimizerSpec = SGDSpec | AdamSpec | AdamWSpec | RMSPropSpec | LionSpec | MuonSpec | CodeOptimizerSpec
OptimizerSpec = Annotated[AnyOptimizerSpec, Field(discriminator="kind")]


class LayerwiseSpec(Spec):
    """Greedy layer-wise pre-training of an MLP: each hidden layer first reconstructs its input (Bengio et al. 2006).

    Attributes:
      num_steps: the number of steps of each layer, on batches like those of training.
      peak_lr: the peak learning rate of plain gradient descent, constant.
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
      evaluate_every: steps between evaluations, in place of `num_evaluations` log-spaced ones.
      target_loss: stop at the first evaluation whose loss is at most this; the record holds the steps it took.
      precision: the precision of the forward and backward pass; parameters are kept in float32 whatever it is.
      moments: precision in which the optimiser keeps its running means.
      clip_norm: the global norm that gradients are scaled down to; None for no limit.
      z_loss: weight of the mean square of log Z, which keeps logits from drifting (Chowdhery et al. 2022).
      ema_decay: the decay of an exponential moving average of the parameters, evaluated beside them; 0 for none.
      noise_scale_parts: parts of a batch whose gradients are compared for the gradient noise scale, a metric in
        examples (McCandlish et al. 2018); None leaves it out.
    """

    optimizer: OptimizerSpec
    schedule: ScheduleSpec = CosineSchedule()
    batch_size: PositiveInt = 128
    num_steps: PositiveInt
    num_evaluations: PositiveInt = 5
    pretraining: LayerwiseSpec | None = since(None)
    evaluate_every: PositiveInt | None = since(None)
    target_loss: PositiveFloat | None = since(None)
    precision: Literal["float32", "bfloat16"] = since("float32")
    moments: Literal["float32", "bfloat16"] = since("float32")
    clip_norm: PositiveFloat | None = since(None)
    z_loss: NonNegative = since(0.0)
    ema_decay: Rate = since(0.0)
    noise_scale_parts: Annotated[int, Field(ge=2)] | None = since(None)

    @model_validator(mode="after")
    def _positions_fit_32_bits(self) -> Self:
        if self.num_steps * self.batch_size >= 2**32:
            raise InputError(
                f"training.num_steps={self.num_steps} of batch_size={self.batch_size} see "
                f"{self.num_steps * self.batch_size} examples; choose fewer than 2**32 = {2**32}"
            )
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        schedule = self.schedule
        if isinstance(schedule, WSDSchedule) and schedule.warmup_steps > schedule.decay_start(self.num_steps):
            raise InputError(
                f"training.schedule.warmup_steps={schedule.warmup_steps} go on after step "
                f"{schedule.decay_start(self.num_steps)}, where the decay of num_steps={self.num_steps} begins; choose "
                "fewer, or a longer run"
            )
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        parts = self.noise_scale_parts
        if parts is not None and self.batch_size % parts:
            raise InputError(
                f"training.noise_scale_parts={parts} does not divide batch_size={self.batch_size}; choose a divisor"
            )
        return self
