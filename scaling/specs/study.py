"""A study: a question and the labelled series of cells that answer it."""

import inspect
import itertools
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

from pydantic import Field, model_validator, validate_call

from scaling.specs.base import InputError, override, parse, parse_value, suggest
from scaling.specs.blame import blame
from scaling.specs.cell import Cell
from scaling.specs.code import load_file
from scaling.specs.collection import paused_collection
from scaling.specs.fits import METRIC, FitSpec
from scaling.specs.metrics import AVERAGED, BUILT_IN, OF_TRAINING, check_objective, is_reference, suggest_metric
from scaling.specs.schedules import WSDSchedule
from scaling.specs.training import TrainingSpec
from scaling.specs.whole import Whole

# Fields of a study that an override may name; its cells have their own.
OWN_FIELDS = ("name", "question", "metric", "fit")


class Series(Whole):
    """Cells that make one curve, under the name the figures give it."""

    label: Annotated[str, Field(min_length=1)]
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _has_cells(self) -> Self:
        if not self.cells:
            raise InputError(f"series.label={self.label!r} has no cells; give it one at least, or leave it out")
        return self


class Study(Whole):
    """A question and its cells.

    Attributes:
      name: letters, digits, `-` and `_`; names the default store.
      question: what the study asks, in one sentence.
      metric: the column that the study's laws are fitted to; every cell has it.
      fit: how.
      series: the curves, in the order in which they are reported.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
    question: str
    metric: str = METRIC
    fit: FitSpec = FitSpec()
    series: tuple[Series, ...]

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if not self.series:
            raise InputError("series is empty, so that there is nothing to train; give the study one series at least")
        labels = [series.label for series in self.series]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise InputError(
                f"series.label={twice[0]!r} is used {labels.count(twice[0])} times; give each series its own"
            )
        return self

    @model_validator(mode="after")
    def _metric_is_measured(self) -> Self:
        check_objective(self.metric, self.fit.objective, "set fit.objective='mse'")
        if self.metric in BUILT_IN and not BUILT_IN[self.metric].is_asked:
            return self  # every cell has it
        for series in self.series:
            for cell in series.cells:
                columns = possible_columns(cell)
                if self.metric not in columns and not any(map(is_reference, cell.data.metrics)):
                    raise InputError(
                        f"metric={self.metric!r} is no column that {series.label!r} will have; "
                        f"{suggest_metric(self.metric, columns)}"
                    )
        return self

    def canonical_json(self) -> str:
        """Returns the one JSON text of this value: sorted keys, no spaces, ASCII, no NaN; kept, for it is long."""
        kept = self.__dict__.get("_text")
        if kept is None:
            kept = self.__dict__["_text"] = super().canonical_json()
        return str(kept)

    @property
    def cells(self) -> dict[str, Cell]:
        """The study's distinct cells by fingerprint, in order."""
        kept = self.__dict__.get("_cells")
        if kept is None:
            named = {cell.fingerprint(): cell for series in self.series for cell in series.cells}
            kept = self.__dict__["_cells"] = named
        return dict(kept)


def possible_columns(cell: Cell) -> tuple[str, ...]:
    """Returns the columns that a cell's record may have, as far as is known without its data and a user's code."""
    names = [name for name, metric in BUILT_IN.items() if not metric.is_asked or name in cell.data.metrics]
    return spread_columns(cell, names)


def spread_columns(cell: Cell, names: Sequence[str]) -> tuple[str, ...]:
    """Returns columns with those of a cell's further evaluation sets, of its averaged weights and of its training.

    Args:
      cell: the cell.
      names: of the loss and the metrics of one evaluation set.
    """
    prefixes = ["", *(f"{each.name}_" for each in cell.data.evaluation_sets)]
    columns = [prefix + name for prefix in prefixes for name in names]
    if cell.training is None:
        return tuple(columns)
    if cell.training.ema_decay:
        columns += [f"{AVERAGED}_{column}" for column in columns]
    measured = cell.training.noise_scale_parts is not None
    return (*columns, *(name for name in OF_TRAINING if name != "noise_scale" or measured))


def ladder(smallest: int, largest: int, factor: float = 2.0) -> tuple[int, ...]:
    """Returns log-spaced sizes from `smallest` up to at most `largest`, each about `factor` times the one before.

    >>> ladder(100, 1_000)
    (100, 200, 400, 800)
    """
    if not 0 < smallest <= largest:
        raise InputError(f"ladder({smallest}, {largest}): need 0 < smallest <= largest")
    if factor <= 1.0:
        raise InputError(f"ladder factor={factor}: must be above 1")
    steps = math.floor(math.log(largest / smallest) / math.log(factor) + 1e-9)
    return tuple(dict.fromkeys(round(smallest * factor**i) for i in range(steps + 1)))


def at_horizons(cell: Cell, num_steps: Sequence[int]) -> tuple[Cell, ...]:
    """Returns a cell at several lengths of run, as leaves of one trunk.

    Its schedule is warm-up–stable–decay, so that runs are the same until they decay: the job trains the common part
    once, and each leaf has the result that it would have alone (Hägele et al. 2024).

    Raises:
      InputError: the cell has another schedule, under which runs of different lengths have nothing in common.
    """
    if cell.training is None or not isinstance(cell.training.schedule, WSDSchedule):
        kind = None if cell.training is None else cell.training.schedule.kind
        raise InputError(f"training.schedule.kind={kind}: horizons need a common trunk; choose wsd")
    trainings = (TrainingSpec(**{**dict(cell.training), "num_steps": steps}) for steps in num_steps)
    return tuple(Cell(**{**dict(cell), "training": training}) for training in trainings)


def resolve_study(reference: str, assignments: Sequence[str] = ()) -> Study:
    """Returns the study that a reference names, with overrides applied to every cell that has the path.

    A path that is a parameter of the study's own `study(...)` function goes to that function, one that is a field of
    the study (`fit.smallest_size`) to the study, and any other to the cells. `data.size=1000`, say, sets every cell's
    size, and cells that become equal count once.

    Args:
      reference: a name in `configs/`, a path to a `.py` file that defines `study()`, or a saved `study.json`.
      assignments: `PATH=VALUE` texts.

    Raises:
      InputError: the study does not exist, an assignment fits neither the function nor any cell, or is invalid.
    """
    if reference.endswith(".json"):
        return _override(_read_study(Path(reference)), assignments, ())
    path = _find_file(reference)
    function = _study_function(path)
    study, others = _call_study(function, path, assignments)
    return _override(study, others, tuple(inspect.signature(function).parameters))


def _read_study(path: Path) -> Study:
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"study {str(path)!r} cannot be read: {error.strerror}; give a saved study.json") from None
    return parse(Study, text, str(path))


def _find_file(reference: str) -> Path:
    if reference.endswith(".py"):
        path = Path(reference)
        if not path.is_file():
            raise InputError(f"study {reference!r} does not exist; give a path to a .py file that defines study()")
        return path
    named: dict[str, list[Path]] = {}
    for path in _config_files():
        named.setdefault(path.stem, []).append(path)
    if reference not in named:
        raise InputError(
            f"study {reference!r} is unknown; {suggest(reference, named) if named else 'configs/ is empty'}"
        )
    path, *hidden = named[reference]
    if hidden:
        print(f"study {reference!r}: {path} is used, not {hidden[0]}; a path says which", file=sys.stderr)
    return path


def _study_function(path: Path) -> Callable[..., Any]:
    with blame(path):
        function = getattr(load_file(path), "study", None)
    if not callable(function):
        raise InputError(f"{path} does not define study(); define a function that returns a scaling.specs.study.Study")
    return function


def _config_files() -> Iterator[Path]:
    """Yields the study files of the working directory's `configs/`, then those that come with this package."""
    here, ours = Path("configs"), Path(__file__).parents[2] / "configs"
    for folder in [here] if ours.exists() and here.exists() and here.samefile(ours) else [here, ours]:
        yield from sorted(path for path in folder.glob("*.py") if path.stem != "__init__")


def _call_study(function: Callable[..., Any], path: Path, assignments: Sequence[str]) -> tuple[Study, list[str]]:
    """Returns the study and the assignments that are not parameters of its function."""
    parameters = inspect.signature(function).parameters
    types = _types_of(function)
    own: dict[str, Any] = {}
    others: list[str] = []
    for assignment in assignments:
        name, _, value = assignment.partition("=")
        if name in parameters:
            own[name] = parse_value(value, types.get(name))
        else:
            others.append(assignment)
    told = " ".join(f"--set {assignment}" for assignment in assignments if assignment not in others)
    with blame(path, f" (with {told})" if told else ""), paused_collection():
        study = validate_call(function)(**own)
    if not isinstance(study, Study):
        raise InputError(f"{path}: study() returned {type(study).__name__}; return a scaling.specs.study.Study")
    return study, others


def _types_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the types of a function's parameters; none where a name of them means nothing."""
    try:
        return get_type_hints(function)
    except NameError:
        return {}


def _override(study: Study, assignments: Sequence[str], parameters: Sequence[str]) -> Study:
    heads = [re.split(r"[.=]", assignment)[0].strip() for assignment in assignments]
    for head, assignment in zip(heads, assignments, strict=True):
        if head not in (*OWN_FIELDS, *Cell.model_fields):
            valid = (*parameters, *OWN_FIELDS, *Cell.model_fields)
            raise InputError(f"--set {assignment}: there is no {head!r}; {suggest(head, valid)}")
    own = [assignment for head, assignment in zip(heads, assignments, strict=True) if head in OWN_FIELDS]
    others = [assignment for assignment in assignments if assignment not in own]
    cells = iter(override([cell for series in study.series for cell in series.cells], others))
    series = tuple(
        Series(label=one.label, cells=tuple(dict.fromkeys(itertools.islice(cells, len(one.cells)))))
        for one in study.series
    )
    (study,) = override([study.model_copy(update={"series": series})], own)  # its metric is one of what cells now have
    return study
