"""Trains the cell of a folder with a checkpoint every few steps, going on from the last; the resume tests kill it.

Says `step N` after every chunk and `saving N` when a save begins. At the end, `state.json` holds a hash of every array
of the final state, and `curve.jsonl` the loss of every step.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np
from etils import epath

import scaling.training.window
from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.tracking import CurveFile, is_evaluation
from scaling.training.checkpoints.keeper import Keeper, Keeping
from scaling.training.networks import load_state
from scaling.training.runner import train_cells


class Saying(CurveFile):
    """A curve file that says when it has a chunk's losses."""

    def log(self, cell, points):
        """Appends the points, and says how far they go."""
        super().log(cell, points)
        if not is_evaluation(points[-1]):
            print("step", points[-1]["step"], flush=True)
            time.sleep(0.05)  # time to be killed in


def main() -> None:
    folder = epath.Path(sys.argv[1])
    execution = parse(Execution, sys.argv[2], "the execution")
    cell = parse(Cell, (folder / "cell.json").read_text(), "the cell")
    scaling.training.window.CURVE_POINTS = 1 << 30  # a point for every step
    save = Keeper.save

    def say_and_save(self, place, legs, facts):
        print("saving", place.step, flush=True)
        save(self, place, legs, facts)

    Keeper.save = say_and_save  # type: ignore[method-assign]
    keeping = Keeping(every_seconds=None, every_steps=4, after_completion=True)
    checkpoints = folder / "checkpoints"
    (record,) = train_cells(
        [cell], execution=execution, tracker=Saying(lambda _: folder), checkpoints=checkpoints, keeping=keeping
    )
    state = load_state([cell], checkpoints, execution)
    arrays = {
        jax.tree_util.keystr(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    found = {
        "arrays": arrays,
        "evaluations": [evaluation.model_dump() for evaluation in record.evaluations],
        "num_resumes": record.num_resumes,
    }
    Path(str(folder / "state.json")).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
