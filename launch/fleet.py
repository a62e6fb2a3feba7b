"""Allocations for a launch: asked for, watched, replaced when they are lost, and let go when nothing is left."""

import time
from collections.abc import Callable, Mapping, Sequence

from launch.coordination.claims import Budget
from launch.coordination.launches import is_cancelled, note_allocations, read_allocations, read_launches
from launch.coordination.presence import Beat, Observer, read_beats
from launch.engines import LIVE, Engine, EngineError, Order, Sighting
from launch.progress import Ended, EndStatus, Progress
from launch.queue.estimates import divide_seconds, estimate_job
from scaling.specs.cell import Cell
from scaling.store.attempts import count_outcomes, last_status
from scaling.store.store import Store

POLL_SECONDS = 5.0

# After allocations have ended without any cell getting on, the next are asked for later and later, and then no more.
MOST_TRIES = 6
FIRST_PAUSE_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 900.0


class Fleet:
    """The allocations that work on a store for one launch.

    Args:
      store: with the cells.
      engine: that gives machines.
      order: what they do.
      count: how many allocations at a time, at most.
      budget: the budget of attempts at a cell.
      pause: waits; replaced in tests.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        order: Order,
        count: int,
        budget: Budget,
        *,
        poll_seconds: float = POLL_SECONDS,
        first_pause: float = FIRST_PAUSE_SECONDS,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store, self._engine, self._order, self._count = store, engine, order, count
        self._budget = budget
        self._poll_seconds, self._first_pause, self._pause = poll_seconds, first_pause, pause
        self._observer = Observer(store)
        self._handles = self._find_handles()
        self._sightings: Mapping[str, Sighting] = {}
        self._tries, self._next_try = 0, 0.0
        self._best: tuple[int, int] | None = None

    def start(self, cells: Mapping[str, Cell]) -> Ended:
        """Asks for what is needed, and leaves it to itself.

        Raises:
          EngineError: the engine refuses.
        """
        self._look()
        live = self._live()
        asked = self._submit(min(self._count, len(cells)) - len(live))
        where = ", ".join(asked) or "nothing new, enough is live"
        print(f"{self._order.launch}: {where}; follow it with: scaling status {self._order.store}")
        return Ended({}, stopped=False)

    def run(self, cells: Mapping[str, Cell]) -> Ended:
        """Keeps allocations at work until every cell has ended, and returns how each did.

        Ctrl-C leaves them running: the same command follows them again, and `scaling cancel` ends them.

        Raises:
          EngineError: the engine refuses, or allocations end again and again without any cell getting on.
        """
        left, statuses = dict(cells), dict[str, EndStatus]()
        seconds = divide_seconds(cells.values())
        progress = Progress(len(cells), estimate_job(cells.values()))
        try:
            while True:
                for name, status in self._ended(left).items():
                    statuses[name] = status
                    progress.update(left.pop(name), status, seconds[name])
                if not left:
                    break
                if is_cancelled(self._store, self._order.launch):
                    progress.say("cancelled")
                    return Ended(statuses, stopped=True)
                self._keep_up(left, progress)
                self._pause(self._poll_seconds)
            self._look()
            self._engine.cancel(self._live())
        except KeyboardInterrupt:
            self._part(progress)
            return Ended(statuses, stopped=True)
        finally:
            progress.close()
        return Ended(statuses, stopped=False)

    def _part(self, progress: Progress) -> None:
        """Leaves allocations to themselves, or ends them where they would not go on."""
        live = self._live()
        if self._engine.outlives_command:
            progress.say(
                f"{len(live)} allocations go on without this command; to follow, run it again; to end them: "
                f"scaling cancel {self._order.store}"
            )
        else:
            progress.say(f"{len(live)} allocations end with this command; their workers save what they can")
            self._engine.cancel(live)

    # --- cells ------------------------------------------------------------------------------------------------------

    def _ended(self, left: Mapping[str, Cell]) -> dict[str, EndStatus]:
        """Returns which of the cells have ended, and how: complete, or as often as the budget allows."""
        statuses: dict[str, EndStatus] = {}
        for name in left:
            record = self._store.read_record(name)
            if record is not None:
                statuses[name] = record.status
        if not self._live():
            for name in left:
                if name not in statuses and self._is_spent(name):
                    statuses[name] = "failed"
        return statuses

    def _is_spent(self, name: str) -> bool:
        folder = self._store.cell_path(name)
        if last_status(folder) == "missing":
            return False
        ended = count_outcomes(folder, self._order.launch)
        return self._budget.is_spent(ended)

    # --- allocations ------------------------------------------------------------------------------------------------

    def _find_handles(self) -> list[str]:
        """Returns what this and earlier launches on the store have asked this kind of engine for."""
        launches = list(read_launches(self._store))
        ours = next((launch for launch in launches if launch.name == self._order.launch), None)
        return [
            handle
            for launch in launches
            if ours is None or (launch.engine, launch.settings) == (ours.engine, ours.settings)
            for handle in read_allocations(self._store, launch.name)
        ]

    def _look(self) -> None:
        self._sightings = self._engine.observe(self._handles) if self._handles else {}

    def _live(self) -> list[str]:
        return [handle for handle, seen in self._sightings.items() if seen.state in LIVE]

    def _submit(self, count: int) -> list[str]:
        if count <= 0:
            return []
        asked = self._engine.submit(self._order, count)
        self._handles.extend(asked)
        self._sightings = {**self._sightings, **dict.fromkeys(asked, Sighting("waiting"))}
        note_allocations(self._store, self._order.launch, asked)
        return asked

    def _keep_up(self, left: Mapping[str, Cell], progress: Progress) -> None:
        """Looks at the allocations, and asks for new ones where cells wait and there is nobody to take them."""
        before = self._sightings
        try:
            self._look()
        except EngineError as error:  # the machines go on; the next look may succeed
            progress.say(f"warning: {error}")
            return
        for handle, seen in self._sightings.items():
            if handle not in before or before[handle] != seen:
                words = f" ({seen.why})" if seen.why else ""
                progress.say(f"{handle}: {seen.state}{' on ' + seen.place if seen.place else ''}{words}")
        live = self._live()
        waiting = sum(self._sightings[handle].state == "waiting" for handle in live)
        beats = list(read_beats(self._store))
        held = {
            cell for beat in beats if beat.cells and not self._observer.is_silent(beat.worker) for cell in beat.cells
        }
        free = set(left) - held
        if self._has_got_on(len(left), beats):
            self._tries, self._next_try = 0, 0.0
        if min(self._count - len(live), len(free) - waiting) <= 0 or time.monotonic() < self._next_try:
            return
        free = {name for name in free if not self._is_spent(name)}  # asked last, since it reads many files
        wanted = min(self._count - len(live), len(free) - waiting)
        if wanted <= 0:
            return
        if any(seen.state == "running" for seen in self._sightings.values()) and self._tries:
            return  # those that run may be about to take the cells
        if self._tries >= MOST_TRIES:
            raise EngineError(
                f"allocations ended {self._tries} times without any cell getting on; the last: {self._why()}"
            )
        self._submit(wanted)
        self._next_try = time.monotonic() + min(self._first_pause * 2**self._tries, LONGEST_PAUSE_SECONDS)
        self._tries += 1

    def _has_got_on(self, num_left: int, beats: Sequence[Beat]) -> bool:
        """Returns whether, since the last call, a cell has ended or has done more steps than any before."""
        steps = sum(done for beat in beats for done, _ in beat.steps.values())
        now, before = (-num_left, steps), self._best
        self._best = now if before is None else max(now, before)
        return before is not None and now > before

    def _why(self) -> str:
        ended = [(handle, seen) for handle, seen in self._sightings.items() if seen.state not in LIVE]
        if not ended:
            return "the engine has forgotten them"
        handle, seen = ended[-1]
        return f"{handle} {seen.state}{': ' + seen.why if seen.why else ''}"
