"""One cell trained by this process, and perhaps by others together with it: `scaling cell`."""

import contextlib
import sys
from pathlib import Path

from launch.coordination.presence import Presence
from launch.exits import DONE, PREEMPTED, WORK_FAILED
from launch.options import Options
from launch.workers.companions import Companions, check_mesh, join_companions
from launch.workers.notices import StopNotices
from launch.workers.replies import CellEnd
from launch.workers.trainer import Trainer
from scaling.devices.compilation import use_compilation_cache
from scaling.devices.processes import Preempted, agree
from scaling.devices.sharding import check_batch
from scaling.specs.base import InputError, parse
from scaling.specs.cell import Cell
from scaling.specs.execution import DEFAULT
from scaling.store.attempts import read_attempts
from scaling.store.store import Store


def train_one(store: Store, path: Path, options: Options, companions: Companions, launch: str | None = None) -> int:
    """Trains one cell, and returns the exit status.

    Args:
      store: where its record goes.
      path: the path of its specification.
      options: how it is trained.
      companions: the companions of this process, which train the cell together with it.
      launch: that its attempts are counted in; None for none, where it may be tried as often as one likes.

    Raises:
      InputError: the cell cannot be read, or cannot be trained so.
    """
    use_compilation_cache()
    execution = options.execution or DEFAULT
    for name, count in {"population": execution.population, "mesh.population": execution.mesh.population}.items():
        if count > 1:
            raise InputError(f"--execution {name}={count}: one cell is trained here; leave it out")
    writes, num_processes = join_companions(companions)
    check_mesh(execution, num_processes)
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"cell {str(path)!r} cannot be read ({error.strerror}); give a cell.json") from None
    cell = parse(Cell, text, str(path))
    if cell.training is not None:
        check_batch(cell.training.batch_size, execution.mesh, execution.micro_batches)
    name = cell.fingerprint()
    folder = store.cell_path(name)
    if store.is_complete(name):
        if writes:
            print(f"cell {name} is complete: {folder / 'record.json'}")
        return DONE
    if writes:
        store.write_cell(cell.canonical_json())
    ended: list[CellEnd] = []
    own = Presence(store, launch, patience_seconds=options.lease_seconds) if writes else contextlib.nullcontext()
    with StopNotices() as notices, own as presence:
        trainer = Trainer(store, notices, presence, options, launch, num_processes=num_processes)
        try:
            mine = trainer.claim([cell], lambda _, how: ended.append(how)) if writes else [cell]
            if agree(len(mine)):
                trainer.train_claimed([cell], execution, lambda _, how: ended.append(how))
        except Preempted:
            print("scaling cell: stopped; the same command goes on", file=sys.stderr)
            return PREEMPTED
    if ended == ["held"]:
        words = f"cell {name} is being trained by another worker; `scaling status` shows where"
        print(f"scaling cell: {words}", file=sys.stderr)
        return WORK_FAILED
    if ended[-1:] in (["failed"], ["again"]):
        words = (read_attempts(folder)[-1].error if writes else None) or "failed"
        print(f"scaling cell: {words.strip().splitlines()[-1]} ({folder / 'attempts.jsonl'})", file=sys.stderr)
        return WORK_FAILED
    if writes:
        print(f"cell {name} {ended[-1] if ended else 'ended'}: {folder / 'record.json'}")
    return DONE
