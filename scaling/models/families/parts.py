"""Pieces that several families build their networks from."""

from typing import Any

from scaling.models.layers.core import Initializer, Layer, Norm
from scaling.specs.base import InputError
from scaling.specs.task import TaskShape

# Rectifiers halve the variance that passes, which `he` makes up for (He et al. 2015).
RECTIFIERS = ("relu", "gelu", "silu", "elu", "leaky_relu")


def hidden_initializer(spec: Any) -> Initializer:
    """Returns how the hidden matrices of a network start: `auto` is he after rectifiers, else lecun."""
    if spec.initializer != "auto":
        return Initializer(spec.initializer)
    return Initializer("he" if spec.activation in RECTIFIERS else "lecun")


def normalize(kind: str, epsilon: float = 1e-5) -> Layer | None:
    """Returns a normalisation layer, or None for `none`."""
    return None if kind == "none" else Norm(kind, epsilon)  # type: ignore[arg-type]


def require_image(task: TaskShape, family: str) -> tuple[int, int, int]:
    """Returns (H, W, C).

    Raises:
      InputError: the examples are no images.
    """
    if task.image_shape is None:
        what = "tokens" if task.vocab_size else "numbers without places"
        fits = "lstm or transformer" if task.predicts_tokens else "mlp"
        raise InputError(
            f"model.kind={family} needs images, but these examples are {what}; choose {fits}, or image data"
        )
    return task.image_shape


def require_tokens(task: TaskShape, family: str) -> int:
    """Returns V.

    Raises:
      InputError: the examples are no tokens.
    """
    if task.vocab_size is None:
        raise InputError(f"model.kind={family} needs tokens, but these examples are numbers; choose mlp, or token data")
    return task.vocab_size
