"""A cell's curve as mirrors show it: one row a step, with its place on every axis."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from scaling.tracking.tracker import Point, is_evaluation

# What a row can be drawn over, besides its step: examples or tokens, FLOPs, and seconds of the job's training steps.
AXES = ("data_seen", "train_flops", "train_seconds")


class Row(NamedTuple):
    """What is known of a step.

    Attributes:
      place: in the order of rows: the step, but one more than the place before where a run that diverged goes back.
      values: `step`, the axes, `train/loss` and other `train/…`, and, where it was evaluated, `eval/loss` and others.
    """

    place: int
    values: dict[str, float]


def make_rows(
    cell: Mapping[str, Any], points: Sequence[Point], *, end: Mapping[str, Any] | None = None, is_over: bool = True
) -> list[Row]:
    """Returns the rows that are whole.

    While a run goes on, the last step may still be evaluated, and the axes of training points may not be known before
    the first evaluation; such rows are left for later, so that a row never changes once it was here.

    Args:
      cell: as JSON.
      points: the points of its `curve.jsonl`.
      end: `data_seen` and `train_flops` at the last step, where they are known beforehand.
      is_over: nothing will come any more.
    """
    training = cell.get("training") or {}
    known = [point for point in points if is_evaluation(point) and point["step"] is not None]
    if end is not None and training:
        known.append({**end, "step": training["num_steps"]})
    data_at = _line_through(known, "data_seen", starts_at_zero=True)
    flops_at = _line_through(known, "train_flops", starts_at_zero=training.get("pretraining") is None)
    seconds = _train_seconds(points)
    rows: list[Row] = []
    for point, spent in zip(points, seconds, strict=True):
        step = point["step"]
        values: dict[str, float | None] = {"step": step, "train_seconds": spent}
        if is_evaluation(point):
            values |= {"data_seen": point["data_seen"], "train_flops": point["train_flops"]}
            is_placed = spent is not None
            values |= {f"eval/{name}": value for name, value in {"loss": point["loss"], **point["metrics"]}.items()}
        else:
            values |= {"data_seen": data_at(step), "train_flops": flops_at(step)}
            is_placed = None not in values.values()
            values |= {f"train/{_short(name)}": value for name, value in point.items() if name != "step"}
        if not is_over and not is_placed:
            return rows[:-1] if rows and rows[-1].values["step"] == step else rows
        found = {name: value for name, value in values.items() if value is not None}
        if rows and rows[-1].values.get("step") == step:
            rows[-1].values.update(found)
        else:
            rows.append(Row(max(step or 0, rows[-1].place + 1 if rows else 0), found))
    return rows if is_over else rows[:-1]


def _short(name: str) -> str:
    return name.removeprefix("train_")


def _line_through(known: Sequence[Point], name: str, *, starts_at_zero: bool) -> Callable[[int], float | None]:
    """Returns a count as a function of the step, on which it depends linearly; None where too little is known."""
    at = {0: 0.0} if starts_at_zero else {}
    at |= {point["step"]: point[name] for point in known if point[name] is not None}
    if len(at) < 2:
        return lambda step: None
    first, last = min(at), max(at)
    slope = (at[last] - at[first]) / (last - first)
    return lambda step: at[first] + slope * (step - first)


def _train_seconds(points: Sequence[Point]) -> list[float | None]:
    """Returns the seconds that steps took up to each point; None where no speed is known.

    Chunks that were compiled have no speed of their own: it is taken to be that of the chunk before, else after.
    """
    speeds = [point.get("steps_per_second") for point in points]
    after = next((speed for speed in speeds if speed), None)
    if after is None:
        return [None] * len(points)
    spent, step, speed = 0.0, 0, after
    found: list[float | None] = []
    for point, own in zip(points, speeds, strict=True):
        speed = own or speed
        spent += max(0, (point["step"] or 0) - step) / speed
        step = max(step, point["step"] or 0)
        found.append(spent)
    return found
