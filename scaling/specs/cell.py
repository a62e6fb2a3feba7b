"""The full specification of one training run: model, data, training and seed."""

from typing import TYPE_CHECKING, Annotated, Self, cast

from pydantic import Field, model_validator
from typing_extensions import TypeIs

from scaling.specs.base import InputError, fingerprint_text
from scaling.specs.data import DataSpec
from scaling.specs.models import AnyEstimatorSpec, AnyNetworkSpec, ModelSpec, NetworkSpec
from scaling.specs.training import TrainingSpec
from scaling.specs.whole import Whole

Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Cell(Whole):
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

    def canonical_json(self) -> str:
        """Returns the one JSON text of this value: sorted keys, no spaces, ASCII, no NaN."""
        text = super().canonical_json()
        self.__dict__.setdefault("_fingerprint", fingerprint_text(text))  # who writes a study needs its cells' next
        return text

    @model_validator(mode="after")
    def _training_fits_model(self) -> Self:
        by_gradient = isinstance(self.model, NetworkSpec)
        if by_gradient and self.training is None:
            raise InputError(f"training is missing, but {self.model.kind} is trained by gradient descent; set training")
        if not by_gradient and self.training is not None:
            raise InputError(f"training is set, but {self.model.kind} has its own solver; leave training out")
        return self


# What the validator of `Cell` has seen to, in words that a type checker understands; `is_network` tells the two apart.
if TYPE_CHECKING:

    class NetworkCell(Cell):
        """A cell whose model is a network, which has training."""

        model: AnyNetworkSpec
        training: TrainingSpec

    class EstimatorCell(Cell):
        """A cell whose model has a solver of its own, and no training."""

        model: AnyEstimatorSpec
        training: None

else:
    NetworkCell = EstimatorCell = Cell


def narrow(cell: Cell) -> NetworkCell | EstimatorCell:
    """Returns the cell as one of its two kinds, for a type checker to tell apart."""
    return cast("NetworkCell | EstimatorCell", cell)


def is_network(cell: Cell) -> TypeIs[NetworkCell]:
    """Returns whether a cell is trained by gradient descent."""
    return cell.training is not None


def is_estimator(cell: Cell) -> TypeIs[EstimatorCell]:
    """Returns whether a cell's model has a solver of its own."""
    return cell.training is None
