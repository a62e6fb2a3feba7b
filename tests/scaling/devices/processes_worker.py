"""One process of a job: trains the cells of a folder with the others, and writes down what it saw of the run.

Arguments: the folder, and JSON of `num_processes`, `process_id`, `coordinator` (left out where it is the only one),
`execution`, and:

- `streamed`: nothing fits on the device;
- `stop_at`: from this step on, every process believes that a preemption notice has come;
- `hasty`: the last process believes that one step takes as long as a chunk should;
- `pause`: seconds after every chunk, to be preempted in.

Says `step N` after every chunk and `saving N` when a save begins. Ends with status 75 where it was preempted.
`result-<process_id>.json` holds the losses, the batches that it read and what the records say. Only process 0 writes
`<cell>/curve.jsonl` and `<cell>/record.json`.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

from etils import epath

import scaling.data.feeding.placement
import scaling.data.feeding.stream
import scaling.training.loop
import scaling.training.window
from scaling.devices.processes import Notices, Preempted, is_writer, join
from scaling.specs.base import parse
from scaling.specs.cell import Cell
from scaling.specs.execution import Execution
from scaling.tracking import CurveFile, Tracker, is_evaluation
from scaling.training.checkpoints.keeper import Keeper, Keeping
from scaling.training.runner import train_cells

PREEMPTED = 75


class Seeing(Tracker):
    """Keeps the losses of all cells at every step, and hands all it hears to another tracker."""

    def __init__(self, then: Tracker, pause: float) -> None:
        self._then, self._pause = then, pause
        self.begun_at = 0
        self.losses: dict[int, list[float]] = {}

    def begin(self, cell, step):
        """Takes where the run begins."""
        self.begun_at = step
        self._then.begin(cell, step)

    def log(self, cell, points):
        """Keeps the losses, and says how far they go."""
        self._then.log(cell, points)
        losses = [point for point in points if not is_evaluation(point)]
        for point in losses:
            self.losses.setdefault(point["step"], []).append(point["train_loss"])
        if losses:
            print("step", losses[-1]["step"], flush=True)
            time.sleep(self._pause)

    def end(self, cell, record):
        """Hands it on."""
        self._then.end(cell, record)


def main() -> None:
    folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    number = asked["process_id"]
    if "coordinator" in asked:
        join(asked["coordinator"], asked["num_processes"], number)
    cells = [parse(Cell, line, "a cell") for line in (folder / "cells.jsonl").read_text().splitlines()]
    execution = parse(Execution, json.dumps(asked["execution"]), "the execution")
    scaling.training.window.CURVE_POINTS = 1 << 30  # a point for every step
    if asked["hasty"] and number == asked["num_processes"] - 1:
        scaling.training.loop.CHUNK_SECONDS = 1e-9
    batches: dict[int, list[str]] = {}
    if asked["streamed"]:
        scaling.data.feeding.placement.RESIDENT_BYTES = 0
        _note_batches(batches)
    at, saved = [0], []
    _note_places(at, saved)
    stop_at = asked["stop_at"]
    notices = Notices()
    tracker = Seeing(CurveFile(epath.Path(folder).joinpath) if is_writer() else Tracker(), asked["pause"])

    def publish(record) -> None:
        if is_writer():
            with (folder / record.cell / "record.json").open("x") as file:  # fails where another has written it
                file.write(record.canonical_json())

    status, found = 0, {}
    with notices:
        try:
            records = train_cells(
                cells,
                execution=execution,
                tracker=tracker,
                on_record=publish,
                checkpoints=epath.Path(folder / "checkpoints"),
                keeping=Keeping(every_seconds=None, every_steps=8),
                heard=notices.heard if stop_at is None else lambda: at[0] >= stop_at,
            )
            found = {
                "evaluations": [[evaluation.loss for evaluation in record.evaluations] for record in records],
                "num_resumes": records[0].num_resumes,
                "warnings": records[0].warnings,
            }
        except Preempted:
            status = PREEMPTED
    seen = {"losses": tracker.losses, "begun_at": tracker.begun_at, "saved": saved, "batches": batches}
    (folder / f"result-{number}.json").write_text(json.dumps(seen | found))
    sys.exit(status)


def _note_batches(batches: dict[int, list[str]]) -> None:
    """Makes streams write down, for every step, a hash of each example that this process hands to its devices."""
    stream = scaling.data.feeding.stream.stream_chunks

    def noted(subset, chunks, *rest, **options):
        for (first, _), chunk in zip(chunks, stream(subset, chunks, *rest, **options), strict=True):
            for step, (inputs, labels) in enumerate(zip(chunk["inputs"], chunk["labels"], strict=True), first):
                batches[step] = [
                    hashlib.sha256(row.tobytes() + label.tobytes()).hexdigest()[:12]
                    for row, label in zip(inputs, labels, strict=True)
                ]
            yield chunk

    scaling.data.feeding.stream.stream_chunks = noted


def _note_places(at: list[int], saved: list[int]) -> None:
    """Makes keepers say where the job stands when they are asked, and where they save it."""
    consider, save = Keeper.consider, Keeper.save

    def note_and_consider(self, place, legs, facts):
        at[0] = place.step
        consider(self, place, legs, facts)

    def note_and_save(self, place, legs, facts):
        print("saving", place.step, flush=True)
        saved.append(place.step)
        save(self, place, legs, facts)

    Keeper.consider, Keeper.save = note_and_consider, note_and_save  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
