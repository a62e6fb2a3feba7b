"""Runs that W&B kept offline: `run-ID.wandb` logs, read record by record with the client's own message classes."""

import json
import re
import struct
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.imports.fetching import Listed, LocalSource, RunError
from launch.imports.histories import READING, HistoryBuilder, encode
from launch.imports.raw import Origin, RawRun, make_run
from scaling.specs.base import InputError, Json

if TYPE_CHECKING:
    import pyarrow as pa

# The framing is that of LevelDB's log, behind a header of four letters, a magic number and a version.
HEADER, MAGIC = struct.Struct("<4sHB"), 0xBEE1
BLOCK_BYTES = 32768
PIECE = struct.Struct("<IHB")  # checksum, length, kind
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class WandbFiles(LocalSource):
    """A folder in which the W&B client kept runs, online or offline, or one such log.

    Args:
      path: a `wandb` folder, one run's folder, or a `.wandb` file.

    Raises:
      InputError: there is nothing of the kind.
    """

    def __init__(self, path: str) -> None:
        root = Path(path)
        if not root.exists():
            raise InputError(f"wandb-offline {path!r} does not exist; give a wandb folder or a run-ID.wandb file")
        self._files = [root] if root.is_file() else sorted(root.rglob("run-*.wandb"))
        # `latest-run` links to a folder that is listed by its own name.
        self._files = [file for file in self._files if "latest-run" not in file.relative_to(root).parts]
        if not self._files:
            raise InputError(f"wandb-offline {path!r} holds no run-ID.wandb; give the folder wandb of the runs")
        whole = root.resolve()
        study = whole.parent.name if whole.name == "wandb" else whole.stem
        self.origin = Origin(kind="wandb-offline", address=str(whole), study=study)

    def list_runs(self) -> list[Listed]:
        """Returns the runs by id; a run that was resumed has several files, in the order of their beginning."""
        by_id: dict[str, list[Path]] = {}
        for file in self._files:
            by_id.setdefault(file.stem.removeprefix("run-"), []).append(file)
        listed = []
        for name, files in by_id.items():
            stats = [file.stat() for file in files]
            version = "+".join([READING, *(f"{stat.st_size}@{stat.st_mtime_ns}" for stat in stats)])
            listed.append(Listed(name, version, payload=sorted(files, key=_began)))
        return listed

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its history; what a killed run left torn is passed over with a notice.

        Raises:
          RunError: a file is no W&B log, or tells of no run.
        """
        try:
            from wandb.proto import wandb_internal_pb2
        except ImportError:
            raise InputError("wandb-offline needs the package wandb, which is not installed; install it") from None

        messages: Any = wandb_internal_pb2
        collected = _Collected()
        for file in listed.payload:
            collected.begin_file()
            for content in read_log(file, collected.notices):
                collected.add(messages.Record.FromString(content))
        if not collected.run:
            raise RunError(f"{listed.payload[-1]} tells of no run; it was killed before it began")
        history = collected.build()
        return collected.make(listed), history if history.num_rows else None


class _Collected:
    """What the records of a run add up to."""

    def __init__(self) -> None:
        self.run: Json = {}
        self.config: dict[str, str] = {}
        self.summary: dict[str, str] = {}
        self.history = HistoryBuilder()
        self.exit_code: int | None = None
        self.notices: list[str] = []
        self._last_step = -1
        self._steps = array("d")  # of the history's rows; NaN where a rewind took them back
        self._passed, self._is_open = 0, False

    def begin_file(self) -> None:
        """Begins the next file of a run that was resumed: only the last one tells how the run ended."""
        self.exit_code, self._is_open = None, False

    def add(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self._begin(record.run)
        elif kind == "config":
            _update(self.config, record.config)
        elif kind == "summary":
            _update(self.summary, record.summary)
        elif kind == "history":
            items = record.history.item
            values = json.loads("[" + ",".join([item.value_json for item in items]) + "]")
            row = dict(zip(map(_key, items), values, strict=True))
            row.setdefault("_step", record.history.step.num)
            if row["_step"] > self._last_step:  # as the server does: a resumed run has no doubled steps
                self._last_step = row["_step"]
                self._steps.append(self._last_step)
                self.history.add(row)
            else:
                self._passed += 1
        elif kind == "exit":
            self.exit_code = record.exit.exit_code

    def build(self) -> "pa.Table":
        """Returns the history without what was rewound."""
        whole = self.history.build()
        taken_back = np.isnan(np.array(self._steps))
        if not taken_back.any():
            return whole
        kept = whole.filter(~taken_back)
        return kept.select([name for name in kept.column_names if kept[name].null_count < kept.num_rows])

    def _branch(self, run: Any) -> None:
        """Goes back to the moment of itself, or of another run, from which a run goes on."""
        point = run.branch_point
        if point.run != run.run_id:
            self.notices.append(f"is a fork of {point.run} at step {point.value:g}; its history begins there")
            return
        steps = np.array(self._steps)
        taken_back = np.flatnonzero(steps > point.value)
        for row in taken_back.tolist():
            self._steps[row] = float("nan")
        self._last_step = int(point.value)
        self.notices.append(f"was rewound to step {point.value:g}: {len(taken_back)} rows after it are superseded")
        kept = self.build()
        for name in [name for name in self.history.build().column_names if name in self.summary]:
            if name not in kept.column_names:
                del self.summary[name]
                continue
            last = kept[name].drop_null()[-1].as_py()
            self.summary[name] = last if isinstance(last, str) else json.dumps(encode(last))

    def _begin(self, run: Any) -> None:
        if run.HasField("branch_point") and not self._is_open:
            self._branch(run)
        self._is_open = True
        _update(self.config, run.config)
        _update(self.summary, run.summary)
        self.run = {
            "name": run.display_name, "group": run.run_group, "job_type": run.job_type, "project": run.project,
            "entity": run.entity, "sweep": run.sweep_id, "notes": run.notes, "host": run.host,
            "tags": list(run.tags), "created_at": run.start_time.ToJsonString() if run.HasField("start_time") else None,
        }  # fmt: skip

    def make(self, listed: Listed) -> RawRun:
        if self._passed:
            self.notices.append(f"{self._passed} rows at steps that it had passed are left out, as W&B does")
        if self.exit_code is None:
            state = "crashed"
            self.notices.append("has no end on record: it was killed, or is still running")
        else:
            state = "failed" if self.exit_code else "finished"
        return make_run(
            listed.id, listed.version, state,
            config=_decode(self.config),
            summary=_decode(self.summary),
            run={name: value for name, value in self.run.items() if value not in ("", None, [])},
            notices=tuple(dict.fromkeys(self.notices)),
        )  # fmt: skip


def _began(file: Path) -> str:
    """Returns the time in a log's folder, `run-20240131_235959-ID` or `offline-run-…`, else the folder's name."""
    found = re.search(r"\d{8}_\d{6}", file.parent.name)
    return found[0] if found else file.parent.name


def _decode(values: dict[str, str]) -> Json:
    return {name: json.loads(text) for name, text in values.items() if not name.startswith("_wandb")}


def _key(item: Any) -> str:
    names = item.nested_key
    return names[0] if len(names) == 1 else ".".join(names) or item.key


def _update(values: dict[str, str], change: Any) -> None:
    """Applies a change to values that stay JSON texts until the end, since most are soon replaced."""
    for item in change.update:
        values[_key(item)] = item.value_json
    for item in change.remove:
        values.pop(_key(item), None)


def read_log(path: Path, notices: list[str]) -> Iterator[bytes]:
    """Yields the records of a log as bytes; a torn or damaged end is passed over, and said in `notices`.

    Raises:
      RunError: the file is no such log.
    """
    content = path.read_bytes()
    if len(content) < HEADER.size or HEADER.unpack_from(content)[:2] != (b":W&B", MAGIC):
        raise RunError(f"{path} is no W&B log, or was killed before its first record")
    position, pieces = HEADER.size, list[bytes]()
    while position + PIECE.size <= len(content):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < PIECE.size:  # the end of a block is filled with zeros
            position += left
            continue
        checksum, length, kind = PIECE.unpack_from(content, position)
        data = content[position + PIECE.size : position + PIECE.size + length]
        if kind == 0 and length == 0 and checksum == 0:
            position += left
            continue
        whole = len(data) == length and kind in (FULL, FIRST, MIDDLE, LAST)
        if not whole or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
            break
        position += PIECE.size + length
        if kind in (FULL, FIRST):
            pieces = []
        pieces.append(data)
        if kind in (FULL, LAST):
            yield b"".join(pieces)
            pieces = []
    if pieces or position < len(content):
        lost = len(content) - position + sum(map(len, pieces))
        notices.append(f"the last {lost} bytes of {path.name} are torn and were passed over")
