"""Trains the cells of a job into a store: claims them, keeps their attempts, and publishes their records."""

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
from etils import epath

from launch.coordination.claims import Claims
from launch.coordination.leases import LeaseLostError
from launch.coordination.logs import JOB_MARK
from launch.coordination.presence import Observer, Presence
from launch.exits import PREEMPTED
from launch.options import DEFAULTS, Options
from launch.queue.begun import note_begun
from launch.queue.cells import read_cell
from launch.queue.estimates import estimate_job
from launch.workers.notices import StopNotices
from launch.workers.replies import CellEnd
from scaling.devices.processes import Preempted
from scaling.specs.cell import Cell, is_network
from scaling.specs.execution import Execution
from scaling.specs.sharing import gather_members, plant
from scaling.store.attempts import Outcome, end_attempt, start_attempt
from scaling.store.code import take_code
from scaling.store.record import Record
from scaling.store.store import Store

if TYPE_CHECKING:
    from scaling.tracking import Tracker
    from scaling.training.checkpoints.keeper import Keeping

# Jobs that take less than this share of the time between two checkpoints keep none: they would be over before the first
# one, and the folder, the threads and the copies of a keeper would be for nothing. The estimate may be ten times off.
SHARE_WORTH_KEEPING = 0.1


# Is told the fingerprints of cells, and how each ended.
OnEnd = Callable[[str, CellEnd], None]


class Trainer:
    """Trains jobs into a store.

    Args:
      store: where records go.
      notices: the notices of preemption.
      presence: of this process, which leases are held by; None for a process that writes nothing, because the first of
        those that train together does.
      options: how every job is run.
      launch: that this process belongs to; None by hand.
      num_processes: that train together.
    """

    def __init__(
        self,
        store: Store,
        notices: StopNotices,
        presence: Presence | None,
        options: Options = DEFAULTS,
        launch: str | None = None,
        *,
        num_processes: int = 1,
    ) -> None:
        if options.code is not None:
            take_code(store.path, options.code)
        self._store, self._notices, self._presence = store, notices, presence
        self._options, self._launch = options, launch
        self._num_processes = num_processes
        self._study_sizes = study_sizes(store)
        self._observer = Observer(store)
        self._claims = None
        if presence is not None:
            self._claims = Claims(store, presence, self._observer, options.budget, launch)
        self._tracker = self._make_tracker()

    def train(
        self,
        cells: Sequence[Cell],
        execution: Execution,
        on_end: OnEnd,
        silent: Mapping[str, int] | None = None,
    ) -> None:
        """Trains the cells of a job, publishes their records, and tells how each ended as soon as it has.

        That is `ok`, `diverged`, `failed`, `again` for a failure that may be tried again, or `held` when another worker
        has the cell. A job that crashes is trained again member by member, so that a bad one fails alone; its cells'
        attempts hold the traceback.

        Args:
          cells: the cells of the job.
          execution: how.
          on_end: receives fingerprints and how cells ended.
          silent: workers that somebody else has found silent, and their counts then.

        Raises:
          Preempted: a notice has come; what could be saved is, and the attempts say that they were interrupted.
        """
        self._observer.trust(dict(silent or {}))
        mine = self.claim(cells, on_end)
        if mine:
            self.train_claimed(mine, execution, on_end)

    def claim(self, cells: Sequence[Cell], on_end: OnEnd) -> list[Cell]:
        """Returns the cells of a job that are now this process's to train; tells of the others."""
        assert self._claims is not None  # noqa: S101  (whoever writes claims)
        by_name = {cell.fingerprint(): cell for cell in cells}
        taken = self._claims.take(by_name)
        for name, status in taken.ended.items():
            on_end(name, status)
        for name in taken.held:
            on_end(name, "held")
        return [cell for name, cell in by_name.items() if name in taken.mine]

    def train_claimed(self, cells: Sequence[Cell], execution: Execution, on_end: OnEnd) -> None:
        """Trains cells that are claimed, as `train` does."""
        names = [cell.fingerprint() for cell in cells]
        if self._presence is not None:
            kind, count = jax.devices()[0].device_kind, jax.local_device_count()
            self._presence.begin(
                cells=tuple(names), steps=dict.fromkeys(names, (0, 0)), device_kind=kind, num_devices=count
            )
        try:
            self._train_members(cells, execution, on_end)
        finally:
            if self._claims is not None and self._presence is not None:
                self._claims.release()
                self._presence.begin(cells=())

    def _train_members(self, cells: Sequence[Cell], execution: Execution, on_end: OnEnd) -> None:
        attempts = _Attempts(self._store, cells, self._presence, self._launch, on_end)
        members = gather_members(cells)
        try:
            self._train(cells, members, execution, attempts)
        except Preempted:
            self._end_all(attempts, "interrupted")
            raise
        except LeaseLostError as error:
            if self._num_processes > 1:  # the others wait for this one, and only its end tells them
                print(f"scaling: {error}", file=sys.stderr, flush=True)
                os._exit(PREEMPTED)
            self._lose(attempts, on_end)
        except Exception:  # noqa: BLE001  (whatever a cell does wrong, the sweep goes on)
            words = traceback.format_exc()
            if len(members) == 1:
                self._end_all(attempts, "failed", words)
                return
            left = self._end_all(
                attempts, "interrupted", f"trained with {len(members) - 1} others, then alone\n{words}"
            )
            for member in members:
                if alone := [cell for cell in member if cell.fingerprint() in left]:
                    self._train_members(alone, execution, on_end)

    def _train(
        self, cells: Sequence[Cell], members: Sequence[Sequence[Cell]], execution: Execution, attempts: "_Attempts"
    ) -> None:
        from scaling.training.runner import train_cells

        if self._notices.heard():  # while the job before was in its last steps
            raise Preempted
        # What the record says of the population is what it was.
        fitting = execution.alone() if len(members) == 1 else execution.model_copy(update={"population": len(members)})
        folder, keeping = self._checkpoints(cells)
        if folder is not None and self._claims is not None:
            note_begun(folder, cells, execution)

        def publish(record: Record) -> None:
            if self._claims is not None:
                self._claims.publish(record)
            attempts.end(record.cell, record.status)

        with self._notices.held_back(folder is not None):
            train_cells(
                cells,
                self._study_sizes,
                execution=fitting,
                tracker=self._tracker,
                on_record=publish,
                checkpoints=folder,
                keeping=keeping,
                heard=self._heard,
                reader_workers=self._options.reader_workers,
            )
        if folder is not None and self._claims is not None and not self._options.keep_checkpoints:
            folder.rmtree(missing_ok=True)  # with what earlier attempts in other company have left

    def _heard(self) -> bool:
        if self._claims is not None:
            self._claims.check()
        return self._notices.heard()

    def _end_all(self, attempts: "_Attempts", outcome: Outcome, error: str | None = None) -> set[str]:
        """Ends what is open, and returns which cells' attempts that were."""
        left = attempts.open
        for name in left:
            may_retry = outcome == "failed" and self._claims is not None and self._claims.may_fail_again(name)
            attempts.end(name, outcome, error, "again" if may_retry else None)
        return left

    def _lose(self, attempts: "_Attempts", on_end: OnEnd) -> None:
        """Leaves to others what they have taken over, and gives up the rest of the job with it."""
        assert self._claims is not None  # noqa: S101  (without claims there is nothing to lose)
        for name in attempts.open:
            if self._claims.still_holds(name):
                attempts.end(name, "interrupted", "others of its job were taken over")
            on_end(name, "held")

    def _make_tracker(self) -> "Tracker":
        from launch.workers.heartbeat_tracker import Following
        from scaling.tracking import Together, Tracker, make_tracker
        from scaling.training.plan import describe_cell

        if self._presence is None:
            return Tracker()
        asked = make_tracker(
            self._options.trackers,
            self._store,
            describe=lambda cell: describe_cell(read_cell(self._store, cell)),
            with_checkpoints=self._options.keep_checkpoints,
        )
        return Together(asked, {"heartbeat": Following(self._presence, self._store)})

    def _checkpoints(self, cells: Sequence[Cell]) -> "tuple[epath.Path | None, Keeping | None]":
        """Returns the folder for a job's checkpoints, None for none, and how they are kept."""
        options = self._options
        seconds, steps = options.checkpoint_seconds, options.checkpoint_steps
        networks = [cell for cell in cells if is_network(cell)]
        if not networks or not (seconds or steps):
            return None, None
        folder = self._store.cell_path(plant(networks).leader) / "checkpoints"
        is_long = steps is not None or estimate_job(cells) >= SHARE_WORTH_KEEPING * seconds
        # Several processes must decide alike, whichever looks at the folder first; one that has begun goes on.
        if not (is_long or self._num_processes > 1 or folder.exists()):
            return None, None
        from scaling.training.checkpoints.keeper import Keeping  # with Orbax

        keeping = Keeping(seconds or None, steps, options.num_checkpoints, options.keep_checkpoints)
        return folder, keeping


class _Attempts:
    """The attempts at a job's cells: all begin together, and each ends once.

    Args:
      store: with the cells.
      cells: the cells of the job.
      presence: the presence of the process; None for one that writes nothing.
      launch: that it belongs to.
      on_end: is told how a cell ended, unless it was interrupted.
    """

    def __init__(
        self,
        store: Store,
        cells: Sequence[Cell],
        presence: Presence | None,
        launch: str | None,
        on_end: OnEnd,
    ) -> None:
        self._store, self._presence, self._launch, self._on_end = store, presence, launch, on_end
        names = [cell.fingerprint() for cell in cells]
        self._open = {name: self._start(name) for name in names}
        self._mark(f"begins {' '.join(names)}")

    @property
    def open(self) -> set[str]:
        """The cells whose attempts have not ended."""
        return set(self._open)

    def end(self, cell: str, outcome: Outcome, error: str | None = None, said: CellEnd | None = None) -> None:
        """Ends a cell's attempt, and tells of it: in other words if `said` is given."""
        attempt = self._open.pop(cell)
        if self._presence is not None:
            end_attempt(self._store.cell_path(cell), attempt, outcome, error)
        self._mark(f"ends {cell} {outcome}")
        if outcome != "interrupted":
            self._on_end(cell, said or outcome)

    def _start(self, name: str) -> str:
        if self._presence is None:
            return ""
        return start_attempt(self._store.cell_path(name), launch=self._launch, worker=self._presence.worker)

    def _mark(self, words: str) -> None:
        """Writes a line by which `scaling logs` finds the part of a log that belongs to a cell."""
        if self._launch is not None and self._presence is not None:
            print(f"{JOB_MARK} {words}", file=sys.stderr, flush=True)


def study_sizes(store: Store) -> tuple[int, ...]:
    """Returns the subset sizes of the store's study; none when a single cell is trained into a bare folder."""
    if not (store.path / "study.json").exists():
        return ()
    return tuple(sorted({cell["data"]["size"] for series in store.study["series"] for cell in series["cells"]}))
