"""The process that trains cells: one by hand (`scaling cell`), or one after another for an engine."""

import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import IO, Any

from absl import app, flags

from scaling.attempts import Outcome, end_attempt, read_attempts, start_attempt
from scaling.cell import Cell
from scaling.files import append_line, write_atomically
from scaling.record import CorruptStoreError, Store
from scaling.spec import InputError, parse

FLAGS = flags.FLAGS

STORE = flags.DEFINE_string("store", None, "Folder to which the record is published.")
READER_WORKERS = flags.DEFINE_integer(
    "reader_workers", 0, "Processes that read data which does not fit on the device; 0 reads in threads.", lower_bound=0
)
SERVE = flags.DEFINE_boolean("serve", False, "Train the cells whose fingerprints arrive on standard input.")


def run_cell(store: Store, cell: Cell, study_sizes: tuple[int, ...]) -> Outcome:
    """Trains a cell and publishes its record; returns how it ended. A crash becomes an attempt with its traceback."""
    name = cell.fingerprint()
    folder = store.cell_path(name)
    attempt = start_attempt(folder)
    try:
        from scaling.runner import train_cell

        curve = folder / "curve.jsonl"
        write_atomically(curve, "")  # an attempt starts from nothing and does not continue an older one's curve
        record = train_cell(
            cell,
            study_sizes,
            lambda evaluation: append_line(curve, evaluation.canonical_json()),
            READER_WORKERS.value,
        )
        store.publish(record)
    except Exception:  # noqa: BLE001  (whatever a cell does wrong, the sweep goes on)
        end_attempt(folder, attempt, "failed", traceback.format_exc())
        return "failed"
    end_attempt(folder, attempt, record.status)
    return record.status


def study_sizes(store: Store) -> tuple[int, ...]:
    """Returns the subset sizes of the store's study; none when a single cell is trained into a bare folder."""
    if not (store.path / "study.json").exists():
        return ()
    return tuple(sorted({cell["data"]["size"] for series in store.study["series"] for cell in series["cells"]}))


def serve(store: Store, requests: IO[str], replies: IO[str]) -> None:
    """Trains the cells whose fingerprints arrive, one a line, and answers each with one JSON line.

    When the requests end while a cell is being trained, the engine is gone: the process ends at once, and the cell is
    trained again by whoever comes next.
    """
    arrived: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()

    def listen() -> None:
        for line in requests:
            arrived.put(line.strip())
        if busy.is_set():
            os._exit(1)
        arrived.put(None)

    threading.Thread(target=listen, daemon=True).start()
    sizes = study_sizes(store)
    _reply(replies, event="ready")
    while (name := arrived.get()) is not None:
        busy.set()
        path = store.cell_path(name) / "cell.json"
        status = run_cell(store, parse(Cell, path.read_text(), str(path)), sizes)
        busy.clear()
        _reply(replies, event="done", cell=name, status=status)


def main(arguments: list[str]) -> int:
    """Runs the worker; absl parses the flags, so JAX's flags work here too."""
    if SERVE.value:
        # Whatever a library prints must not mix with the replies.
        replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        serve(Store.open(STORE.value), sys.stdin, replies)
        return 0
    if STORE.value is None or len(arguments) != 2:
        raise app.UsageError("usage: scaling cell CELL.json --store DIR", exitcode=2)
    return _train_one(Store(STORE.value), Path(arguments[1]))


def run(arguments: list[str]) -> None:
    """Parses flags, JAX's among them, and runs `main`; exits with its status."""
    import jax

    jax.config.config_with_absl()
    try:
        app.run(main, argv=arguments)
    except (InputError, CorruptStoreError) as error:
        print(f"scaling cell: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, InputError) else 1)


def _train_one(store: Store, path: Path) -> int:
    try:
        text = path.read_text()
    except OSError as error:
        raise InputError(f"cell {str(path)!r} cannot be read ({error.strerror}); give a cell.json") from None
    cell = parse(Cell, text, str(path))
    name = cell.fingerprint()
    if store.is_complete(name):
        print(f"cell {name} is complete: {store.cell_path(name) / 'record.json'}")
        return 0
    store.write_cell(cell.canonical_json())
    status = run_cell(store, cell, study_sizes(store))
    folder = store.cell_path(name)
    if status == "failed":
        words = read_attempts(folder)[-1].error or "failed"
        print(f"scaling cell: {words.strip().splitlines()[-1]} ({folder / 'attempts.jsonl'})", file=sys.stderr)
        return 1
    print(f"cell {name} {status}: {folder / 'record.json'}")
    return 0


def _reply(replies: IO[str], **message: Any) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    run(sys.argv)
