"""Stacks of long short-term memories over tokens, with dropout between layers alone (Zaremba et al. 2014).

Dims (of one example): T tokens, V vocabulary, D width, L layers, K classes.
"""

from scaling.models.counting.sizing import find_shape
from scaling.models.families.parts import normalize, require_tokens
from scaling.models.layers.core import Dense, Dropout, GlobalPool, Initializer, Layer, Repeat, Residual, sequential
from scaling.models.layers.sequence import LSTM, Embed
from scaling.models.shape import Preset, Shape
from scaling.specs.base import InputError
from scaling.specs.models import LSTMSpec
from scaling.specs.task import TaskShape, token_task

TASK = token_task(256, 256)  # bytes

PRESETS = {
    # Zaremba et al. 2014, section 4.1: the Penn Treebank's 10,000 words.
    "zaremba_lstm_small": Preset(LSTMSpec(width=200), token_task(10_000, 20)),
    "zaremba_lstm_medium": Preset(LSTMSpec(width=650, dropout=0.5), token_task(10_000, 35)),
    "zaremba_lstm_large": Preset(LSTMSpec(width=1500, dropout=0.65), token_task(10_000, 35)),
}

OBJECTIVES = ("next_token", "classify", "regress", "none")


def shape(spec: LSTMSpec, task: TaskShape) -> Shape:
    """Returns the shape that a specification asks for.

    Raises:
      InputError: the examples are no tokens, the objective needs both sides of a token, or no network is near.
    """
    require_tokens(task, "lstm")
    if task.objective not in OBJECTIVES:
        raise InputError(
            f"model.kind=lstm cannot learn the objective {task.objective}, since it sees the tokens in order; "
            "choose a transformer with model.form=encoder"
        )
    return find_shape(spec, task, layers)


def layers(shape: Shape) -> Layer:
    """Returns embedding → LSTM × L → readout of every token, or of the last one on labelled sequences.

    Dropout stands on what goes up, never on what goes on in time: after the embedding and after every layer.
    """
    spec, task = shape.spec, shape.task
    init = Initializer("lecun" if spec.initializer == "auto" else spec.initializer)

    def drop() -> Layer | None:
        return Dropout(spec.dropout) if spec.dropout else None

    # A table of given width does not grow with the network, so the first layer is what leads from fixed size to width.
    first = LSTM(shape.width, init, role="hidden" if spec.embedding_width is None else "input")
    step: Layer = sequential(norm=normalize(spec.normalization), dropout=drop(), lstm=LSTM(shape.width, init))
    head = Dense(task.num_classes, role="output", group="head", term="logits")
    return sequential(
        embedding=Embed(task.vocab_size or 0, spec.embedding_width or shape.width),
        dropout=drop(),
        layer_0=first,
        layer=Repeat("layer", Residual(step) if spec.residual else step, shape.depth - 1),
        last_dropout=drop(),
        pool=None if task.predicts_tokens else GlobalPool("last"),
        head=head if task.objective != "none" else None,
    )
