"""What one finished cell measured, and the store: a folder of cells and records that survives being killed."""

import functools
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import fsspec.config
from etils import epath
from pydantic import Field

from scaling import attempts
from scaling.files import is_local, one_line_errors, write_atomically
from scaling.specs.base import InputError, Spec, canonical_json, fingerprint_text, parse
from scaling.specs.data import count_unique

CellStatus = Literal["ok", "diverged", "failed", "interrupted", "started", "missing"]

TABLE_HEAD = ("study", "cell", "family", "label", "seed", "step", "is_final", "status", "trunk", "num_params")
TABLE_MIDDLE = ("data_unit", "data_seen", "data_unique", "epochs", "train_flops", "train_flops_spent")
TABLE_TAIL = ("peak_lr", "batch_size", "wall_seconds", "device_kind", "num_devices", "mfu")


class CorruptStoreError(ValueError):
    """A file of the store does not say what it should; the message names the file and the remedy."""


class Evaluation(Spec):
    """The fixed evaluation set's verdict at one step of a run.

    Attributes:
      step: optimiser steps done; None for models without steps.
      data_seen: examples seen so far, repeats counted.
      train_flops: training FLOPs a standalone run has spent so far; None where they are not counted.
      loss: mean negative log-likelihood in nats; None for models without probabilities, or when not finite.
      metrics: the task's metrics by name, for instance `accuracy` and `error`.
    """

    step: int | None
    data_seen: int
    train_flops: float | None
    loss: float | None
    metrics: dict[str, float]


class SubsetManifest(Spec):
    """Proof of what a cell saw.

    Attributes:
      source: the data's name.
      source_sha256: hash of all training inputs and labels of the source, in its own order.
      order: how the permutation was drawn.
      seed: its seed.
      size: m.
      digests: for m and each smaller size of the study, the sha256 of the first so many indices. Subset 100 is nested
        in subset 200 when both records hold the same digest for 100.
      class_counts: examples of each class among the m, as they are labelled; empty where there are no classes.
      evaluation_size: examples of the evaluation set.
      evaluation_sha256: hash of its inputs and labels.
      num_unique: distinct examples among the m; None in records before it was counted, which had no others.
      label_noise, num_noisy: share of labels changed, as asked for, and how many were.
      duplication: share of examples that repeat another.
      in_evaluation: examples that are other rows than the evaluation set's, yet have the same inputs as one of them;
        None where this was not looked for.
      facts: what the source tells of itself: numbers of documents and tokens, of examples passed over, versions.
    """

    source: str
    source_sha256: str
    order: str
    seed: int
    size: int
    digests: dict[str, str]
    class_counts: tuple[int, ...]
    evaluation_size: int
    evaluation_sha256: str
    num_unique: int | None = None
    label_noise: float = 0.0
    num_noisy: int = 0
    duplication: float = 0.0
    in_evaluation: int | None = None
    facts: dict[str, int | float | str] = Field(default_factory=dict)

    def is_prefix_of(self, larger: "SubsetManifest") -> bool:
        """Returns whether the two manifests prove that this subset is the beginning of the larger one.

        The proof needs the larger record to hold a digest at this size, which it does for all sizes of its study.
        """
        same_pool = self.source_sha256 == larger.source_sha256
        return same_pool and self.digests[str(self.size)] == larger.digests.get(str(self.size))


class Record(Spec):
    """What one finished cell measured; the only thing the analysis reads.

    Counts are raw: parameters by named group, training FLOPs of the whole run by named term, also those that
    `train_flops` leaves out (lookups as products, softmax, norms: see `scaling.flops.DEFAULT`).
    Fields are None where a family has no such count; `flops_version` names the accounting. `data_unique` and what was
    seen are in `data_unit`s, so `epochs` above 1 says that data was repeated. `waiting_seconds` is how long, at most,
    the device had nothing to do because streamed data had not been read; None where data was resident.

    Cells that were trained together share the time of their job, so that seconds add up: `wall_seconds` is a cell's
    share. A leaf of a branch tree names its `trunk`, and `train_flops_spent` is what it added to the tree.
    `train_seconds` is the part of the time that optimiser steps took, without compilation and evaluation; `mfu` is of
    these, against the peak of the device kind where that is known. `steps_to_target` is None while `target_loss` is not
    reached; `loss_spikes` counts steps whose loss lay far above the ones before; `execution` says how the job was run,
    and `num_resumes` how often it went on from a checkpoint.
    """

    schema_version: Literal[1] = 1
    cell: str
    family: str
    seed: int
    status: Literal["ok", "diverged"]
    trunk: str | None = None
    num_params: int | None
    params: dict[str, int]
    data_unit: Literal["examples", "tokens"]
    data_unique: int
    epochs: float
    flops: dict[str, float]
    flops_version: int
    train_flops_spent: float | None
    evaluations: tuple[Evaluation, ...] = Field(min_length=1)
    peak_lr: float | None
    batch_size: int | None
    wall_seconds: float
    waiting_seconds: float | None = None
    train_seconds: float | None = None
    steps_to_target: int | None = None
    loss_spikes: int | None = None
    execution: dict[str, Any] | None = None
    num_resumes: int = 0
    device_kind: str
    num_devices: int
    mfu: float | None = None
    data: SubsetManifest
    environment: dict[str, str]
    warnings: tuple[str, ...] = ()


class Store:
    """A folder, local or on any `etils.epath` path, that holds one study's cells and records.

    Layout: `study.json`; `cells/<fingerprint>/` with `cell.json`, `curve.jsonl`, `attempts.jsonl` and, published last
    and atomically, `record.json`, which exists if and only if the cell is complete.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self.path = epath.Path(path)
        if not is_local(self.path):
            # Others write there: gcsfs would go on showing a folder, and a file's size, as it first saw them.
            fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False
            logging.getLogger("gcsfs").addHandler(logging.NullHandler())  # it raises what it would also print
        try:
            with one_line_errors(self.path, "reach"):
                self.path.exists()
        except ImportError as error:
            raise InputError(
                f"store {str(path)!r} needs a package that is not installed ({error}); for gs:// install scaling[gcs]"
            ) from None

    @classmethod
    def open(cls, path: epath.PathLike) -> "Store":
        """Returns the store at a path.

        Raises:
          InputError: there is no store.
        """
        store = cls(path)
        if not (store.path / "study.json").exists():
            raise InputError(f"store {str(path)!r} holds no study.json; give a folder that `scaling run` has written")
        return store

    # --- the study --------------------------------------------------------------------------------------------------

    def check(self, study_json: str) -> None:
        """Checks that the store is new, or holds this study or a part of it.

        Raises:
          InputError: the store belongs to another study, or holds cells that this study lacks.
          CorruptStoreError: what it holds cannot be read.
        """
        if not (self.path / "study.json").exists():
            return
        study, held = json.loads(study_json), self.study
        if held["name"] != study["name"]:
            raise InputError(
                f"store {str(self.path)!r} belongs to study {held['name']!r}, not {study['name']!r}; "
                "choose another --store"
            )
        lost = set(cell_labels(held)) - set(cell_labels(study))
        if lost:
            raise InputError(
                f"store {str(self.path)!r} holds {len(lost)} cells that this version of study {study['name']!r} "
                "lacks; choose another --store, or add cells instead of changing them"
            )

    def create(self, study_json: str) -> None:
        """Writes a study into a new store, or into one that holds a part of it.

        Raises:
          InputError: the store belongs to another study, holds cells that this study lacks, or cannot be written.
        """
        self.check(study_json)
        path, text = self.path / "study.json", study_json + "\n"
        if not path.exists() or path.read_text() != text:
            write_atomically(path, text)
            self.__dict__.pop("study", None)

    @functools.cached_property
    def study(self) -> dict[str, Any]:
        """The study as JSON: name, question, metric, fit and series of labelled cells."""
        path = self.path / "study.json"
        try:
            study: dict[str, Any] = json.loads(path.read_text())
            study["name"], study["metric"], study["fit"], cell_labels(study)
        except (ValueError, KeyError, TypeError):
            raise CorruptStoreError(f"{path} is corrupt; restore it, or run the study into another --store") from None
        return study

    # --- cells ------------------------------------------------------------------------------------------------------

    def cell_path(self, cell: str) -> epath.Path:
        """Returns the folder of a cell, by fingerprint."""
        return self.path / "cells" / cell

    def write_cell(self, cell_json: str) -> None:
        """Writes a cell's canonical JSON under its fingerprint, unless it is there."""
        path = self.cell_path(fingerprint_text(cell_json)) / "cell.json"
        if not path.exists():
            write_atomically(path, cell_json)

    def publish(self, record: Record) -> None:
        """Makes a cell complete: its record appears whole or not at all, and a present one is left as it is."""
        path = self.cell_path(record.cell) / "record.json"
        if not path.exists():
            write_atomically(path, record.canonical_json() + "\n")

    def is_complete(self, cell: str) -> bool:
        """Returns whether a cell has its record."""
        return (self.cell_path(cell) / "record.json").exists()

    def read_record(self, cell: str) -> Record | None:
        """Returns a cell's record, or None while it has none.

        Raises:
          CorruptStoreError: the file does not hold a valid record of this cell.
        """
        path = self.cell_path(cell) / "record.json"
        if not path.exists():
            return None
        try:
            record = parse(Record, path.read_text(), str(path))
        except InputError as error:
            raise CorruptStoreError(f"corrupt record: {error}; delete that file to train the cell again") from None
        if record.cell != cell:
            raise CorruptStoreError(f"{path} is the record of cell {record.cell}; delete it to train {cell} again")
        return record

    def records(self) -> dict[str, Record]:
        """Returns the records of the study's complete cells, by fingerprint, in the study's order."""
        found = ((cell, self.read_record(cell)) for cell in cell_labels(self.study))
        return {cell: record for cell, record in found if record is not None}

    def cell_status(self, cell: str) -> CellStatus:
        """Returns where a cell stands; `started` is running or was killed, which only its engine can tell apart."""
        record = self.read_record(cell)
        return record.status if record is not None else attempts.last_status(self.cell_path(cell))

    # --- the table --------------------------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Returns one flat row per evaluation of every cell that was tried, in the contract's columns and order.

        A cell in several series has a row for each label. A cell without a record but with attempts has one row with
        status `failed` or `interrupted` and no measurements.
        """
        rows: list[dict[str, Any]] = []
        for cell, labels in cell_labels(self.study).items():
            record = self.read_record(cell)
            measured = list(self._unfinished_rows(cell) if record is None else _record_rows(record))
            rows.extend({**row, "study": self.study["name"], "label": label} for label in labels for row in measured)
        columns = _columns(rows)
        return [{name: row.get(name) for name in columns} for row in rows]

    def _unfinished_rows(self, cell: str) -> Iterator[dict[str, Any]]:
        status = attempts.last_status(self.cell_path(cell))
        if status != "missing":
            spec = json.loads((self.cell_path(cell) / "cell.json").read_text())
            data = spec["data"]
            unique = count_unique(data["size"], data.get("duplication", 0.0))
            yield {
                "cell": cell,
                "family": spec["model"]["kind"],
                "seed": spec["seed"],
                "is_final": True,
                "status": "failed" if status == "failed" else "interrupted",
                "data_unique": unique * data["source"].get("sequence_length", 1),  # of tokens, where they are counted
            }


def cell_labels(study: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the labels of every cell of a study given as JSON, by fingerprint, in the study's order."""
    labels: dict[str, list[str]] = {}
    for series in study["series"]:
        for cell in series["cells"]:
            labels.setdefault(fingerprint_text(canonical_json(cell)), []).append(series["label"])
    return labels


def _record_rows(record: Record) -> Iterator[dict[str, Any]]:
    last = record.evaluations[-1]
    for evaluation in record.evaluations:
        is_final = evaluation is last
        yield {
            "cell": record.cell,
            "family": record.family,
            "seed": record.seed,
            "step": evaluation.step,
            "is_final": is_final,
            "status": record.status,
            "trunk": record.trunk,
            "num_params": record.num_params,
            **{f"params_{group}": count for group, count in record.params.items()},
            "data_unit": record.data_unit,
            "data_seen": evaluation.data_seen,
            "data_unique": record.data_unique,
            "epochs": evaluation.data_seen / record.data_unique,
            "train_flops": evaluation.train_flops,
            "train_flops_spent": record.train_flops_spent if is_final else evaluation.train_flops,
            **{f"flops_{term}": flops * evaluation.data_seen / last.data_seen for term, flops in record.flops.items()},
            "loss": evaluation.loss,
            **evaluation.metrics,
            "peak_lr": record.peak_lr,
            "batch_size": record.batch_size,
            "wall_seconds": record.wall_seconds if is_final else None,
            "device_kind": record.device_kind,
            "num_devices": record.num_devices,
            "mfu": record.mfu,
        }


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the contract's columns in its order: counts by group after the total, metrics after the loss."""
    found = list(dict.fromkeys(name for row in rows for name in row))
    fixed = {*TABLE_HEAD, *TABLE_MIDDLE, *TABLE_TAIL, "loss"}
    groups = sorted(name for name in found if name.startswith("params_"))
    terms = sorted(name for name in found if name.startswith("flops_"))
    metrics = sorted(name for name in found if name not in {*fixed, *groups, *terms})
    return [*TABLE_HEAD, *groups, *TABLE_MIDDLE, *terms, "loss", *metrics, *TABLE_TAIL]
