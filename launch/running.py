"""A study is run: what it lacks is trained here or on an engine's machines, for the command and for Python alike."""

import dataclasses
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.coordination.launches import begin_launch
from launch.coordination.provenance import Checkout, code_warnings, describe_code
from launch.engines import ENGINES, Order, connect
from launch.fleet import Fleet
from launch.options import DEFAULTS, Options, make_options
from launch.progress import Ended, is_notebook
from launch.workers.agent import run_cells
from launch.workers.checker import check_cells, check_cells_by
from launch.workers.forks import ForkServer
from launch.workers.here import find_slots, start_server
from scaling.specs.base import InputError, suggest
from scaling.specs.cell import Cell
from scaling.specs.code import references_in
from scaling.specs.fits import OBJECTIVE, RESAMPLES
from scaling.specs.study import Study, resolve_study
from scaling.store.code import keep_code, pack
from scaling.store.columns import CONTRACT, MIXTURE, is_part
from scaling.store.files import is_local
from scaling.store.gathering import Summary
from scaling.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit


@dataclasses.dataclass(frozen=True)
class Result:
    """What there is after a run.

    Attributes:
      study: that was run.
      store: with its records.
      ok: cells that are complete and have not diverged, of this run and earlier ones.
      diverged: cells that are complete, and have.
      failed: fingerprints of the cells that failed in this run.
      stopped: whether the run was stopped before all cells had ended; the same call goes on from there.
    """

    study: Study
    store: Store
    ok: int
    diverged: int
    failed: tuple[str, ...]
    stopped: bool

    @property
    def counts(self) -> dict[str, int]:
        """How many cells there are, and how many of each kind."""
        return {"cells": len(self.study.cells), "ok": self.ok, "diverged": self.diverged, "failed": len(self.failed)}

    def __repr__(self) -> str:
        bad = "".join(f", {n} {name}" for name, n in list(self.counts.items())[2:] if n)
        stopped = "; stopped, run it again to go on" if self.stopped else ""
        return f"<Result {self.store.path}: {self.ok + self.diverged} of {len(self.study.cells)} cells{bad}{stopped}>"

    def table(self) -> "pd.DataFrame":
        """Returns every evaluation as one tidy table."""
        from analysis.tables.table import read_table

        return read_table(str(self.store.path))

    def fit(self, *, resamples: int = RESAMPLES, **changes: Any) -> "dict[str, Fit]":
        """Returns the fits by label: of the law that the study declares, with intervals from paired resamples.

        Args:
          resamples: of the bootstrap.
          changes: fields of the study's `fit` to change, for example `law="power"`.

        Raises:
          InputError: there is no such field.
          AnalysisError: no series can be fitted.
        """
        from analysis.errors import AnalysisError
        from analysis.fit_table import fit_study
        from analysis.laws.registry import get_law

        known = type(self.study.fit).model_fields
        for name in changes:
            if name not in known:
                raise InputError(f"fit({name}=…): there is no such option; {suggest(name, [*known, 'resamples'])}")
        if "law" in changes and "objective" not in changes and get_law(changes["law"]).objective != OBJECTIVE:
            changes["objective"] = get_law(changes["law"]).objective  # the law's own, as `scaling fit` has it
        bootstrap, notices = fit_study(self.table(), self.study.model_dump(mode="json"), resamples, **changes)
        if not bootstrap.fits:
            raise AnalysisError("; ".join(notices) or f"store {str(self.store.path)!r} has nothing to fit")
        for line in notices:
            print(line, file=sys.stderr)
        return dict(bootstrap.fits)

    def report(self, path: str | Path | None = None) -> Path:
        """Returns the path of the study's page after writing it; a notebook shows a link to it.

        Raises:
          AnalysisError: no cell is complete, or the file cannot be written.
        """
        from analysis.report.make import make_report
        from analysis.report.page import write_page

        page = Path(path or f"{self.store.path}/report.html")
        write_page(make_report(str(self.store.path)), str(page))
        if is_notebook():
            from IPython.display import FileLink, display

            display(FileLink(str(page)))
        return page


@dataclasses.dataclass(frozen=True)
class Running:
    """A study, where its records go, and what trains it.

    Attributes:
      study, store, options: what is trained, into which store, and how.
      engine, settings, allocations: what gives machines, its `PATH=VALUE` settings, and how many at a time.
      detach: whether to start, and leave it to itself.
      file: that defines the study, whose code the launch notes.
    """

    study: Study
    store: Store
    options: Options = DEFAULTS
    engine: str = "local"
    settings: Sequence[str] = ()
    allocations: int = 1
    detach: bool = False
    file: Path | None = None

    @property
    def is_here(self) -> bool:
        """Whether this process starts the workers."""
        return self.engine == "local" and not self.detach

    def find_missing(self) -> tuple[dict[str, Cell], dict[str, Summary]]:
        """Returns the cells to train, and what is known of those that are complete, by fingerprint.

        Raises:
          InputError: the store is another study's.
          CorruptStoreError: a record cannot be read.
        """
        if self.is_here:
            find_slots(self.options)  # refused before anything is read
        self.store.check(self.study.canonical_json())
        cells = self.study.cells
        complete = self.store.summaries(cells)
        missing = {name: cell for name, cell in cells.items() if name not in complete}
        if missing:
            print(f"{self.study.name}: {len(missing)} of {len(cells)} cells to train", file=sys.stderr)
        return missing, complete

    def check(self, missing: dict[str, Cell], server: ForkServer | None = None) -> None:
        """Checks that cells can be trained, and will have what the study's law takes.

        Args:
          missing: the cells, by fingerprint.
          server: that forks a process which looks at the cells; None has this one load what that takes.

        Raises:
          InputError: one cannot, or will not.
          AnalysisError: there is no such law.
        """
        check_law(self.study)
        asked = missing.values(), self.study.metric, self.options.execution
        for line in check_cells(*asked) if server is None else check_cells_by(server, *asked):
            print(f"warning: {line}", file=sys.stderr)

    def describe(self) -> str:
        """Returns what an engine would be asked for; nothing for this machine."""
        if self.is_here:
            return ""
        engine, _ = connect(self.engine, self.settings, self.store)
        return engine.describe(make_order(self.store, "NAME", self.options.words()), self.allocations)

    def train(self, missing: dict[str, Cell], complete: dict[str, Summary]) -> Result:
        """Returns what there is after training the missing cells; a detached run's may be there later.

        Args:
          missing: what `find_missing` has found to train.
          complete: what it has found complete.

        Raises:
          InputError: a cell cannot be trained, the store not be written, or the engine not do what it is asked for.
          EngineError: workers do not start, or the engine refuses.
        """
        if not missing:
            check_law(self.study)
            self._create()
            ended = Ended({}, stopped=False)
        elif self.is_here:
            ended = self._train_here(missing)
        else:
            self.check(missing)
            ended = self._train_elsewhere(missing)
        failed = tuple(name for name, status in ended.statuses.items() if status == "failed")
        if missing:
            complete = self.store.summaries(self.study.cells)
        diverged = sum(cell.status == "diverged" for cell in complete.values())
        return Result(self.study, self.store, len(complete) - diverged, diverged, failed, ended.stopped)

    def _create(self) -> Options:
        """Creates the store, and returns options that name the users' code of the study, which is put there.

        Raises:
          InputError: a file is not known here, or imports what cannot be shipped.
        """
        self.store.create(self.study.canonical_json())
        bundle = pack(references_in(self.study))
        return (
            self.options.model_copy(update={"code": keep_code(self.store.path, bundle)})
            if bundle.files
            else self.options
        )

    # --- here ---------------------------------------------------------------------------------------------------------

    def _train_here(self, cells: dict[str, Cell]) -> Ended:
        slots = find_slots(self.options)
        with start_server(slots, self.options, cells.values()) as server:
            code = self._code()  # while the server loads
            self.check(cells, server)
            options = self._create()
            launch = begin_launch(self.store, "local", code, flags=options.words())
            return run_cells(cells, self.store, slots, options, launch.name, waits=True, server=server)

    # --- elsewhere ----------------------------------------------------------------------------------------------------

    def _train_elsewhere(self, cells: dict[str, Cell]) -> Ended:
        options = self._create()
        if self.allocations < 1:
            raise InputError(f"--allocations {self.allocations}: must be at least 1")
        engine, settings = connect(self.engine, self.settings, self.store)
        if self.detach and not engine.outlives_command:
            raise InputError(
                f"--detach: what --engine {self.engine} gives with these settings ends with this command; leave it "
                "out, or give the address of a cluster that is there"
            )
        code = self._code()
        for line in code_warnings(code):
            print(f"warning: {line}", file=sys.stderr)
        launch = begin_launch(
            self.store,
            self.engine,
            code,
            settings=settings.model_dump(mode="json"),
            allocations=self.allocations,
            flags=options.words(),
        )
        order = make_order(self.store, launch.name, launch.flags)
        fleet = Fleet(self.store, engine, order, self.allocations, self.options.budget)
        return fleet.start(cells) if self.detach else fleet.run(cells)

    def _code(self) -> tuple[Checkout, ...]:
        is_file = self.file is not None and self.file.is_file()
        return describe_code([Path(__file__), *([self.file.resolve()] if self.file and is_file else [])])


def run(
    study: Study | str | Path,
    store: str | Path | None = None,
    *,
    engine: str = "local",
    settings: Mapping[str, Any] | None = None,
    allocations: int = 1,
    **options: Any,
) -> Result:
    """Returns what there is after training what a study lacks; does what `scaling run` does, and is as safe to repeat.

    Ctrl-C, or a notebook's interrupt, has the workers save and returns a result that is `stopped`.

    Args:
      study: a `Study`, a name in `configs/`, a path to a .py file with `study()`, or to a study.json.
      store: where records go; `runs/` and the study's name by default.
      engine: what gives machines; this one by default.
      settings: of the engine, by path: `{"partition": "gpu"}`.
      allocations: machines, or gangs of machines, that the engine is asked for at a time.
      options: fields of `launch.options.Options`: `workers=2`, `execution=Execution(population=8)`, …

    Raises:
      InputError: the study, the store, an option or a cell is refused; nothing has been trained.
      EngineError: workers do not start, or the engine refuses.
    """
    if engine not in ENGINES:
        raise InputError(f"engine={engine!r} is unknown; {suggest(engine, ENGINES)}")
    if engine == "local" and threading.current_thread() is not threading.main_thread():
        raise InputError(
            "run() in another thread cannot hear Ctrl-C; call it in the main thread, or start `scaling run`"
        )
    asked = make_options(options)
    found = study if isinstance(study, Study) else resolve_study(str(study))
    file = getattr(sys.modules["__main__"], "__file__", None) if isinstance(study, Study) else study
    running = Running(
        found,
        Store(str(store or f"runs/{found.name}")),
        asked,
        engine,
        [f"{path}={json.dumps(value)}" for path, value in (settings or {}).items()],
        allocations,
        file=None if file is None else Path(file),
    )
    return running.train(*running.find_missing())


def make_order(store: Store, launch: str, words: Sequence[str]) -> Order:
    """Returns what machines of a launch shall do.

    Args:
      store: with the cells.
      launch: its name.
      words: the words of an agent's command line, besides the store and the launch.
    """
    path = str(store.path) if not is_local(store.path) else str(Path(store.path).resolve())
    return Order(launch, path, ("work", path, f"--launch={launch}", *words))


def check_law(study: Study) -> None:
    """Checks that the law that a study declares is there, and that records have what it takes.

    Raises:
      AnalysisError: there is no law of that name.
      InputError: it takes a column that no record has.
    """
    from analysis.laws.registry import get_law

    law = get_law(study.fit.law)
    for name in law.variables:
        if name not in CONTRACT and not is_part(name) and "." not in name and not name.startswith(MIXTURE):
            raise InputError(
                f"fit.law={study.fit.law!r} takes the column {name!r}, which records do not have; "
                f"{suggest(name, ('num_params', 'data_unique', 'data_seen', 'train_flops'))}"
            )
