"""Cells as W&B runs: what a run is called and holds, and how the rows it lacks are sent.

W&B keeps a run's rows in order and cannot change or remove one; what a client that was killed had not sent is lost, and
a row at or before the last one's `_step` is dropped without a word. So that every step is there once:

- a cell has one run, whose id is its fingerprint, on whatever machine it is trained and however often it goes on;
- rows are made from the store's `curve.jsonl`, one a training step, whose `_step` is that step, and only whole ones;
- whoever opens the run asks where it stands, and sends what the store has beyond that.

A row that is there stands: after a preemption, steps that are done again are not sent again. On the same platform they
are the same to the bit. The summary is that of the record, so it is right whatever happened on the way.
"""

import contextlib
import functools
import math
import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any

from scaling.specs.base import InputError, Json, canonical_json, fingerprint_text, parse_value
from scaling.store.curves import read_curve
from scaling.store.files import is_local
from scaling.store.outline import cell_labels
from scaling.store.record import Record
from scaling.store.store import Store
from scaling.tracking.rows import AXES, Row, make_rows

# Set in a run's summary when all of it was sent: the hash of what was sent.
MARK = "ledger_sha256"

INIT_SECONDS = 30.0
LONGEST_TAG = 64


class Mirror:
    """A store's place at W&B.

    Args:
      store: a study's; or a folder into which single cells are trained.
      project: by default WANDB_PROJECT, else the study's name.
      entity: a user or team; by default WANDB_ENTITY, else the account's own.
      watched_pid: the process whose use of the machine is shown with the runs; None shows none.
      with_checkpoints: whether runs refer to the checkpoints of their cells, where there are any.
    """

    def __init__(
        self,
        store: Store,
        project: str | None = None,
        entity: str | None = None,
        *,
        watched_pid: int | None = None,
        with_checkpoints: bool = False,
    ) -> None:
        self.store, self.entity = store, entity or os.environ.get("WANDB_ENTITY")
        has_study = (store.path / "study.json").exists()
        self.study: str = store.study["name"] if has_study else store.path.name
        self.labels = cell_labels(store.study) if has_study else {}
        self.project = project or os.environ.get("WANDB_PROJECT") or self.study
        self._watched_pid, self._with_checkpoints = watched_pid, with_checkpoints

    def read_cell(self, cell: str) -> Json:
        """Returns a cell as JSON."""
        path = self.store.cell_path(cell) / "cell.json"
        if not path.exists():
            raise InputError(f"{path} is missing; cells are written there before they are trained")
        found: Json = parse_value(path.read_text())
        return found

    def checkpoints_of(self, cell: str) -> str | None:
        """Returns the address of a cell's checkpoints, None where there are none or they are not to be shown."""
        path = self.store.cell_path(cell) / "checkpoints"
        if not self._with_checkpoints or not path.exists():
            return None
        return f"file://{os.path.abspath(os.fspath(path))}" if is_local(path) else os.fspath(path)  # noqa: PTH100

    def describe(
        self, cell: str, record: Record | None = None, facts: Mapping[str, Any] | None = None
    ) -> "RunDescription":
        """Returns what a cell's run is called and holds, apart from its rows.

        Args:
          cell: its fingerprint.
          record: None while it is not complete.
          facts: `num_params`, `data_seen` and `train_flops` of the whole run, where they are known beforehand.
        """
        return RunDescription(self, cell, record, facts or {})

    def open(self, description: "RunDescription") -> "MirroredRun":
        """Returns a cell's run, which is made where it is not there, and goes on where it is.

        Raises:
          wandb.Error: there is no account, or the server does not answer.
        """
        return MirroredRun(description, self.start_run(**description.call))

    def close_all(self) -> None:
        """Ends all runs of this process and the client's own process, when what is on the way has arrived."""
        import wandb

        wandb.teardown(exit_code=1)

    def start_run(self, **call: Any) -> Any:
        """Returns the run of `wandb.init` with these arguments, in this mirror's project and group."""
        import wandb

        settings = wandb.Settings(
            console="off",
            disable_git=True,
            init_timeout=INIT_SECONDS,
            save_code=False,
            silent=True,
            x_disable_machine_info=self._watched_pid is None,
            x_disable_meta=self._watched_pid is None,
            x_disable_stats=self._watched_pid is None,
            x_save_requirements=False,
            **({} if self._watched_pid is None else {"x_stats_pid": self._watched_pid}),
        )
        return wandb.init(
            project=self.project,
            entity=self.entity,
            group=self.study,
            dir=_folder(self.store),
            resume=None if is_offline() else "allow",
            reinit="create_new",
            settings=settings,
            **call,
        )


class RunDescription:
    """What a cell's run is called and holds, apart from its rows.

    Attributes:
      call: arguments of `wandb.init`.
      config: the config of the run: the cell, and what it is for.
      summary: the record's fields without the evaluations, which are the rows, and the last one's values; empty while
        the cell is not complete.
      mark: hash of all this.
    """

    def __init__(self, mirror: Mirror, cell: str, record: Record | None, facts: Mapping[str, Any]) -> None:
        self.cell, self.record, self.facts = cell, record, facts
        self.spec, self._folder = mirror.read_cell(cell), mirror.store.cell_path(cell)
        family = self.spec["model"]["kind"]
        labels = mirror.labels.get(cell) or [family]
        known = {name: facts.get(name) for name in ("num_params", "data_seen", "train_flops")}
        if record is not None:
            last = record.evaluations[-1]
            known = {"num_params": record.num_params, "data_seen": last.data_seen, "train_flops": last.train_flops}
        flops = known["train_flops"]
        # Budgets within a tenth of a decade are one, which panels group by.
        known["log10_train_flops"] = round(math.log10(flops), 1) if flops else None
        ours = {"cell": cell, "study": mirror.study, "family": family, "label": labels[0], "labels": labels}
        self.config = {**self.spec, **ours, **{name: value for name, value in known.items() if value is not None}}
        self.summary = {} if record is None else _summarise(record)
        tags = [family, *labels, mirror.study, *([record.status] if record is not None else [])]
        self.checkpoints = mirror.checkpoints_of(cell) if record is not None else None
        self.call = {
            "id": cell,
            "name": _name(labels[0], self.spec),
            "job_type": "cell",
            "tags": [tag[:LONGEST_TAG] for tag in dict.fromkeys(tags)],
        }
        told = [self.call, self.config, self.summary, self.checkpoints]
        self.mark = fingerprint_text(canonical_json(told))

    def rows(self) -> list[Row]:
        """Returns the rows that the store has by now and that can be sent."""
        end = self.facts if "train_flops" in self.facts else None
        return make_rows(self.spec, read_curve(self._folder), end=end, is_over=self.record is not None)


class MirroredRun:
    """A cell's run that is open.

    Attributes:
      num_sent: rows that were sent since it was opened.
    """

    def __init__(self, description: RunDescription, run: Any) -> None:
        self._description, self._run = description, run
        self._next_place = run.starting_step
        self.num_sent = 0
        run.config.update(description.config, allow_val_change=True)
        for axis in ("step", *AXES):
            run.define_metric(axis)
        for metrics in ("train/*", "eval/*"):
            run.define_metric(metrics, step_metric="data_seen")

    def send(self) -> None:
        """Sends the rows that the store has and the run lacks."""
        for row in self._description.rows():
            if row.place >= self._next_place:
                self._run.log(row.values, step=row.place, commit=True)
                self._next_place = row.place + 1
                self.num_sent += 1

    def finish(self, description: RunDescription) -> None:
        """Sends what is left, with the summary where the cell is complete, and waits until all has arrived.

        Args:
          description: as it is now; without a record the run counts as failed until it goes on.
        """
        self._description = description
        self.send()
        if description.record is not None:
            self._run.config.update(description.config, allow_val_change=True)
            self._run.tags = description.call["tags"]
            self._run.summary.update({**description.summary, MARK: description.mark})
            if description.checkpoints is not None:
                self._refer(description.checkpoints)
        self._run.finish(exit_code=0 if description.record is not None else 1)

    def _refer(self, address: str) -> None:
        import wandb

        artifact = wandb.Artifact(f"checkpoint-{self._description.cell}", type="checkpoint")
        artifact.add_reference(address, name="checkpoints", checksum=False)
        self._run.log_artifact(artifact)


def is_offline() -> bool:
    """Returns whether W&B is told to write to files instead of talking to its server."""
    return os.environ.get("WANDB_MODE") in ("offline", "dryrun")


def is_disabled() -> bool:
    """Returns whether W&B is told to do nothing."""
    return os.environ.get("WANDB_MODE") == "disabled"


def has_account() -> bool:
    """Returns whether this machine has an account at W&B; never asks for one, and makes the client say less."""
    os.environ.setdefault("WANDB_SILENT", "true")  # it announces where it found the account
    import wandb

    with contextlib.suppress(Exception):
        return bool(wandb.login(prompt=False, verify=False))
    return False


# Threads that begin runs at one time must have one folder: of two, the one that is not kept would be removed in use.
_making = threading.Lock()


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wandb-")  # removed with the process


def _folder(store: Store) -> str:
    """Returns where the client keeps its files: offline ones are the result, others are of no use afterwards."""
    if folder := os.environ.get("WANDB_DIR"):
        return folder
    if is_offline() and is_local(store.path):
        return os.fspath(store.path)
    with _making:
        return _scratch().name


def _name(label: str, cell: Mapping[str, Any]) -> str:
    """Returns a name for people.

    >>> _name("mlp", {"model": {"num_params": 3000}, "data": {"size": 200}, "seed": 1})
    'mlp N=3,000 m=200 seed=1'
    """
    size = cell["model"].get("num_params")
    return f"{label}{f' N={size:,}' if size else ''} m={cell['data']['size']:,} seed={cell['seed']}"


def _summarise(record: Record) -> Json:
    last = record.evaluations[-1].model_dump(mode="json")
    metrics = last.pop("metrics")
    return {**metrics, **last, **record.model_dump(mode="json", exclude={"evaluations"})}
