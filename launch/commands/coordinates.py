"""The coordinate check of a family at the command line: measured, judged, printed and drawn."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from analysis.checks.coordinates import (
    MAX_SLOPE,
    MIN_HIDDEN_SLOPE,
    MIN_UPDATE_SLOPE,
    fit_slopes,
    judge,
    plot_coordinates,
)
from analysis.figures.style import save_figure
from launch.text import render_table
from scaling.checks.coordinates import Axis, measure_coordinates
from scaling.models.registry import FAMILIES
from scaling.specs.base import InputError, Spec, override, suggest
from scaling.specs.models import (
    ConvNetSpec,
    InceptionSpec,
    LSTMSpec,
    MLPSpec,
    ModelSpec,
    ModuleSpec,
    NetworkSpec,
    ResNetSpec,
    TransformerSpec,
    ViTSpec,
    XceptionSpec,
)
from scaling.specs.task import TaskShape, image_task, settle_task, token_task
from scaling.specs.training import AdamSpec, OptimizerSpec


class CoordinateCheck(Spec):
    """What is checked: all that `--set` may change.

    Attributes:
      model: at its base width and depth, which are where the ladders start.
      task: what it must fit, with made-up examples.
      optimizer: with a learning rate that makes a difference within a few steps.
      widths, depths: to try; none leaves the axis out.
      num_steps, num_seeds, batch_size: of each network.
    """

    model: ModelSpec
    task: TaskShape
    optimizer: OptimizerSpec = AdamSpec(peak_lr=0.01)
    widths: tuple[int, ...] = (64, 128, 256)
    depths: tuple[int, ...] = ()
    num_steps: int = 4
    num_seeds: int = 3
    batch_size: int = 16


NUMBERS = TaskShape(num_features=64, vocab_size=None, num_classes=10)
IMAGES, LARGER_IMAGES, TEXT = image_task(8, 10), image_task(32, 10), token_task(32, 16)

# Convolutions sum over a kernel's places too, so that the same learning rate changes more.
CONV_ADAM = AdamSpec(peak_lr=0.002)

# Small enough for a check within a minute or two on two cores, and wide enough for slopes near their limits.
CHECKS = {
    "mlp": CoordinateCheck(
        model=MLPSpec(width=64, depth=4, residual=True, normalization="layer"),
        task=NUMBERS,
        widths=(64, 128, 256, 512),
        depths=(4, 8, 16),
    ),
    "convnet": CoordinateCheck(model=ConvNetSpec(width=64, depth=1), task=IMAGES, optimizer=CONV_ADAM),
    "resnet": CoordinateCheck(
        model=ResNetSpec(width=32, depth=1), task=IMAGES, optimizer=CONV_ADAM, widths=(32, 64, 128), depths=(2, 6)
    ),
    "inception": CoordinateCheck(
        model=InceptionSpec(width=128), task=LARGER_IMAGES, optimizer=CONV_ADAM, widths=(128, 256, 512)
    ),
    "xception": CoordinateCheck(
        model=XceptionSpec(width=128, depth=1),
        task=LARGER_IMAGES,
        optimizer=CONV_ADAM,
        widths=(128, 256, 512),
        depths=(2, 8),
    ),
    "lstm": CoordinateCheck(model=LSTMSpec(width=64, depth=2), task=TEXT),
    "transformer": CoordinateCheck(model=TransformerSpec(width=64, depth=1, head_size=16), task=TEXT, depths=(2, 8)),
    "vit": CoordinateCheck(model=ViTSpec(width=64, depth=1, head_size=16), task=IMAGES, depths=(2, 8)),
}

# Beside the standard parametrisation, which is there to be seen failing.
CANDIDATES: dict[Axis, str] = {"width": "mup", "depth": "completep"}


def check_family(family: str, assignments: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the measured rows and the verdicts of a family, with `PATH=VALUE` on a CoordinateCheck's fields.

    Compares `standard` with `mup` over width, and with `completep` over depth in families with residual blocks; where
    an assignment names a parametrisation, checks that one alone.

    Raises:
      InputError: the family is none that gradients train, an assignment does not fit it, or a ladder is too short.
    """
    if ":" in family:
        checked = CoordinateCheck(model=ModuleSpec(code=family, width=64), task=NUMBERS)
    elif family in FAMILIES:
        checked = CHECKS[family]
    else:
        raise InputError(f"--family {family}: there is no family of that name to train; {suggest(family, FAMILIES)}")
    check = override([checked], assignments)[0]
    model, task = check.model, settle_task(check.task)
    assert isinstance(model, NetworkSpec)  # noqa: S101  (its kind is one of FAMILIES)
    is_chosen = any(assignment.startswith("model.parametrization=") for assignment in assignments)
    ladders: tuple[tuple[Axis, tuple[int, ...]], ...] = (("width", check.widths), ("depth", check.depths))
    for axis, values in ladders:
        if len(set(values)) == 1:
            raise InputError(f"--set {axis}s={list(values)}: a slope needs two sizes at least; add one, or choose []")

    def measure(axis: Axis, values: tuple[int, ...], scheme: str) -> list[dict[str, Any]]:
        return measure_coordinates(
            model.model_copy(update={"parametrization": scheme}),
            task,
            axis,
            values,
            optimizer=check.optimizer,
            num_steps=check.num_steps,
            seeds=range(check.num_seeds),
            batch_size=check.batch_size,
        )

    with ThreadPoolExecutor() as pool:  # most of the time is compilation, which takes one core a program
        waiting = [
            pool.submit(measure, axis, values, scheme)
            for axis, values in ladders
            for scheme in ((model.parametrization,) if is_chosen else ("standard", CANDIDATES[axis]))
            if values
        ]
        rows = [row for future in waiting for row in future.result()]
    return rows, judge(fit_slopes(rows))


def transfers(verdicts: Sequence[dict[str, Any]]) -> bool:
    """Returns whether the parametrisations that claim to keep sizes do; `standard` claims nothing."""
    return all(verdict["passes"] for verdict in verdicts if verdict["parametrization"] != "standard")


def draw_check(family: str, rows: Sequence[dict[str, Any]], verdicts: Sequence[dict[str, Any]], path: str) -> None:
    """Writes the figure."""
    save_figure(plot_coordinates(rows, verdicts, f"Coordinate check of {family}"), path)


def render_check(verdicts: Sequence[dict[str, Any]]) -> str:
    """Returns the verdicts as a table for a terminal, and what its columns mean."""

    def write(slope: float | None) -> str:
        return "-" if slope is None else f"{slope:+.2f}"

    table = [
        {
            "parametrisation": verdict["parametrization"],
            "over": verdict["axis"],
            **{name: write(verdict[name]) for name in ("hidden", "update", "logits", "frozen")},
            "verdict": "passes" if verdict["passes"] else "fails: " + verdict["worst"],
        }
        for verdict in verdicts
    ]
    legend = (
        "Slopes of log mean |x| on log size after the first step. hidden: of activations, over width the farthest\n"
        "from 0; update, logits: greatest of changes since t = 0, of logits and scores; frozen: least of the last\n"
        "changes, over depth those after the last block.\n"
        f"Passes: none above {MAX_SLOPE}, over width no activation below {MIN_HIDDEN_SLOPE}, frozen not below "
        f"{MIN_UPDATE_SLOPE}."
    )
    return render_table(table) + "\n\n" + legend
