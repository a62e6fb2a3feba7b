"""Runs in TensorBoard's event files: each folder that holds some is a run; read without TensorFlow."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from launch.imports.fetching import Listed, LocalSource, RunError
from launch.imports.histories import READING, Pivot
from launch.imports.raw import Origin, RawRun, make_run
from scaling.specs.base import InputError

if TYPE_CHECKING:
    import pyarrow as pa

PATTERN = "*tfevents*"
# A record: length, masked CRC-32C of the length, content, masked CRC-32C of the content.
HEAD = struct.Struct("<QI")
TAIL_BYTES = 4
HEAD_BYTES = 4096  # the first event, which says no more than a version, is shorter
START = 1  # of a session: another attempt begins at the event's step
END_STATES = {1: "success", 2: "failure", 3: "running"}
HPARAMS = "hparams"
# Of TensorFlow's kinds of tensors: where the numbers are if they are not raw bytes, and how the bytes are read.
NUMBERS = {1: ("float_val", "<f4"), 2: ("double_val", "<f8"), 3: ("int_val", "<i4"), 9: ("int64_val", "<i8")}


class TensorBoardRuns(LocalSource):
    """A log folder.

    Hyper-parameters are read from the hparams plugin. Where a run lacks them and exactly one folder in it has some,
    as PyTorch's `add_hparams` leaves them, they are the run's.

    Raises:
      InputError: the folder is missing or holds no event files, or the package that reads them is not installed.
    """

    def __init__(self, path: str) -> None:
        try:
            import tensorboardX.proto.event_pb2  # noqa: F401  is it there?
        except ImportError:
            raise InputError(
                "event files need the package tensorboardX, which is not installed; pip install scaling[tensorboard]"
            ) from None
        self._root = Path(path)
        if not self._root.is_dir():
            raise InputError(f"tensorboard {path!r} is no folder; give the --logdir of TensorBoard")
        self._folders: dict[Path, list[Path]] = {}
        for file in sorted(self._root.rglob(PATTERN)):
            if file.is_file():
                self._folders.setdefault(file.parent, []).append(file)
        if not self._folders:
            raise InputError(f"tensorboard {path!r} holds no event files; give the --logdir of TensorBoard")
        self.origin = Origin(kind="tensorboard", address=str(self._root.resolve()), study=self._root.resolve().name)

    def list_runs(self) -> list[Listed]:
        """Returns the folders that hold event files, each a run, with those that add hyper-parameters to it."""
        added = {folder: self._added_to(folder) for folder in self._folders}
        taken = {child for child in added.values() if child}
        listed = []
        for folder, files in self._folders.items():
            if folder in taken:
                continue
            child = added[folder]
            read = [*files, *(self._folders[child] if child else [])]
            version = "+".join([READING, *(f"{file.stat().st_size}@{file.stat().st_mtime_ns}" for file in read)])
            name = folder.relative_to(self._root).as_posix()
            listed.append(Listed(self._root.resolve().name if name == "." else name, version, payload=(folder, read)))
        return listed

    def _added_to(self, folder: Path) -> Path | None:
        """Returns the one folder in a run's folder that holds its hyper-parameters."""
        children = [child for child in self._folders if child.parent == folder]
        with_params = [child for child in children if _has_hparams(self._folders[child])]
        return with_params[0] if len(with_params) == 1 and not _has_hparams(self._folders[folder]) else None

    def fetch(self, listed: Listed) -> "tuple[RawRun, pa.Table | None]":
        """Returns a run and its scalars by step; a torn end is passed over with a notice.

        A restart that the log tells of supersedes what was logged at its step and later, as in TensorBoard; so does
        a later file in which a tag begins at or below what it had reached.
        """
        folder, files = listed.payload
        pivot, added = Pivot(), Pivot()
        config: dict[str, Any] = {}
        state, notices = None, list[str]()
        for file in sorted(files, key=_began):
            into = pivot if file.parent == folder else added
            into.begin_part()
            for event in read_events(file, notices):
                if event.HasField("session_log") and event.session_log.status == START:
                    into.purge(event.step)
                for value in event.summary.value:
                    plugin = value.metadata.plugin_data
                    if plugin.plugin_name == HPARAMS:
                        params, ended = _read_hparams(plugin.content)
                        config.update(params)
                        state = ended or state
                    elif (number := _scalar(value)) is not None:
                        into.add(value.tag, event.step, event.wall_time, number)
        name = folder.relative_to(self._root)
        run = {"name": listed.id, "group": name.parent.as_posix() if len(name.parts) > 1 else None}
        summary = {**added.last(), **pivot.last()}
        notices += pivot.notices()
        raw = make_run(
            listed.id, listed.version, state, config=config, summary=summary, run=run, notices=tuple(notices)
        )
        return raw, pivot.build()


def _began(path: Path) -> tuple[float, int, str]:
    """Returns what sorts the files of a run by their beginning: the first event's time, then the one in the name."""
    named = re.search(r"tfevents\.(\d+)", path.name)
    try:
        with path.open("rb") as file:
            found = next(_parse(file.read(HEAD_BYTES)), None)
    except OSError:  # which is said when the whole file is read
        found = None
    return found[0].wall_time if found else float("inf"), int(named[1]) if named else 0, path.name


def _has_hparams(files: list[Path]) -> bool:
    return any(
        value.metadata.plugin_data.plugin_name == HPARAMS
        for file in files
        for i, event in enumerate(read_events(file, []))
        if i < 8  # they come first
        for value in event.summary.value
    )


def read_events(path: Path, notices: list[str]) -> Iterator[Any]:
    """Yields the events of a file; a torn or damaged end is passed over, and said in `notices`.

    Raises:
      RunError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    position = 0
    for event, end in _parse(content):
        yield event
        position = end
    if position < len(content):
        notices.append(f"the last {len(content) - position} bytes of {path.name} are torn and were passed over")


def _parse(content: bytes) -> Iterator[tuple[Any, int]]:
    """Yields events and where each ends, up to the first that is torn or damaged."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    position = 0
    while position + HEAD.size <= len(content):
        length, checksum = HEAD.unpack_from(content, position)
        end = position + HEAD.size + length + TAIL_BYTES
        if end > len(content) or masked_crc32c(content[position : position + 8]) != checksum:
            break
        try:
            event = Event.FromString(content[position + HEAD.size : end - TAIL_BYTES])
        except DecodeError:
            break
        yield event, end
        position = end


def _scalar(value: Any) -> float | None:
    """Returns a scalar's number: of the old form, or a tensor of one number; None for all else."""
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    if value.WhichOneof("value") != "tensor" or value.metadata.plugin_data.plugin_name not in ("scalars", ""):
        return None
    field, kind = NUMBERS.get(value.tensor.dtype, ("", ""))
    if not field:
        return None
    numbers = getattr(value.tensor, field) or np.frombuffer(value.tensor.tensor_content, kind)
    return float(numbers[0]) if len(numbers) == 1 else None


def _read_hparams(content: bytes) -> tuple[dict[str, Any], str | None]:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    data = HParamsPluginData.FromString(content)
    kind = data.WhichOneof("data")
    if kind == "session_start_info":
        found = data.session_start_info.hparams
        return {name: getattr(value, value.WhichOneof("kind") or "null_value") for name, value in found.items()}, None
    return {}, END_STATES.get(data.session_end_info.status) if kind == "session_end_info" else None
