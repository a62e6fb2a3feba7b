"""Curves for TensorBoard, written without TensorFlow: `tensorboard --logdir STORE/tensorboard`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.store.outline import cell_labels
from scaling.store.record import Record
from scaling.store.store import Store
from scaling.tracking.tracker import Point, Tracker, is_evaluation

FOLDER = "tensorboard"


class TensorBoard(Tracker):
    """Writes a cell's points as scalars over its steps, into `STORE/tensorboard/<label>/<cell>`.

    The names are those of W&B's metrics: `train/loss`, `eval/loss`, …. After a preemption TensorBoard leaves out what
    was written of later steps.
    """

    def __init__(self, store: Store) -> None:
        has_study = (store.path / "study.json").exists()
        self._labels = cell_labels(store.study) if has_study else {}
        self._folder = Path(os.fspath(store.path)) / FOLDER
        self._writers: dict[str, Any] = {}

    def begin(self, cell: str, step: int) -> None:
        """Opens a file beside those that are there, which takes back what they say of later steps."""
        from tensorboardX import SummaryWriter

        label = self._labels.get(cell, ["cells"])[0].replace("/", "-")
        # Files are named by the second, and read in the order of their names: the step keeps those of one second apart.
        self._writers[cell] = SummaryWriter(
            str(self._folder / label / cell), purge_step=step + 1, filename_suffix=f".{step:012d}"
        )

    def log(self, cell: str, points: Sequence[Point]) -> None:
        """Writes the points."""
        writer = self._writers[cell]
        for point in points:
            step = point["step"] or 0
            if is_evaluation(point):
                values = {f"eval/{name}": value for name, value in {"loss": point["loss"], **point["metrics"]}.items()}
            else:
                values = {f"train/{name.removeprefix('train_')}": point[name] for name in point if name != "step"}
            for name, value in values.items():
                if value is not None:
                    writer.add_scalar(name, value, step)

    def end(self, cell: str, record: Record | None) -> None:
        """Writes how it ended, and closes the file."""
        writer = self._writers.pop(cell)
        if record is not None:
            writer.add_text("record", f"```\n{record.model_dump_json(indent=2, exclude={'evaluations'})}\n```")
        writer.close()
