"""The folder of raw runs: each as it came, whole or not at all, so that a mapping can change without a new download."""

import json
import re
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etils import epath
from pydantic import Field

from analysis.tables.files.json_files import flatten
from launch.imports.histories import Values, count_values, encode, read_history
from scaling.specs.base import InputError, Json, Spec, fingerprint_text, parse
from scaling.store.files import write_atomically
from scaling.store.record import CorruptStoreError

if TYPE_CHECKING:
    import pyarrow as pa

IMPORT_FILE, MAPPING_FILE, PROPOSAL_FILE = "import.json", "mapping.json", "mapping.proposed.json"
TABLE_FILE, REPORT_FILE = "table.parquet", "report.json"
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Origin(Spec):
    """Where the runs of a folder come from.

    Attributes:
      kind: the source's word on the command line.
      address: a project, a folder, a file or a server.
      only: the source's own filter; empty for all runs.
      study: the table's `study`.
    """

    schema_version: Literal[1] = 1
    kind: str
    address: str
    only: str = ""
    study: str


class RawRun(Spec):
    """One run as its source tells it, but for nested names, which are dotted.

    Attributes:
      id: the source's own name of the run; unique in the folder.
      version: changes whenever the run does; a run of the same version is not fetched again.
      state: the source's word for how the run stands; None where it does not say.
      config: what was set.
      summary: final values.
      run: what the tracker knows: name, group, times.
      tags: tags with values.
      history_rows: number of rows of the history; None without one.
      history_columns: values by column of the history.
      notices: what a person should know of this run.
    """

    schema_version: Literal[1] = 1
    id: str
    version: str
    state: str | None
    config: Json = Field(default_factory=dict)
    summary: Json = Field(default_factory=dict)
    run: Json = Field(default_factory=dict)
    tags: Json = Field(default_factory=dict)
    history_rows: int | None = None
    history_columns: dict[str, int] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def scalars(self) -> Json:
        """Returns the values that a run has once, by full name such as `config.lr`."""
        named = {"config": self.config, "summary": self.summary, "run": self.run, "tags": self.tags}
        values = {f"{section}.{name}": value for section, of in named.items() for name, value in of.items()}
        return {"run.id": self.id, "run.state": self.state, **values}


def make_run(
    name: str,
    version: str,
    state: str | None,
    *,
    config: Json | None = None,
    summary: Json | None = None,
    run: Json | None = None,
    tags: Json | None = None,
    notices: tuple[str, ...] = (),
) -> RawRun:
    """Returns a raw run with dotted names and values that JSON can hold; values that are None are left out."""

    def plain(values: Json | None) -> Json:
        return {key: encode(value) for key, value in flatten(values or {}) if value is not None}

    return RawRun(
        id=name, version=version, state=state, config=plain(config), summary=plain(summary), run=plain(run),
        tags=plain(tags), notices=notices,
    )  # fmt: skip


class RawFolder:
    """A local folder of raw runs: `import.json`, and `runs/<key>/` with `history.parquet` and, last, `run.json`."""

    def __init__(self, path: str | Path) -> None:
        if "://" in str(path):
            raise InputError(f"--store {str(path)!r}: imports are kept in a local folder; give one, and copy it after")
        self.path = Path(path)
        self._lock = threading.Lock()

    def write(self, name: str, text: str) -> None:
        """Writes a file of the folder that appears whole or not at all."""
        with self._lock:
            write_atomically(epath.Path(self.path / name), text)

    def claim(self, origin: Origin) -> None:
        """Marks the folder as the import of one source, or checks that it is.

        Raises:
          InputError: the folder belongs to a study or to another source.
        """
        if (self.path / "study.json").exists():
            raise InputError(f"--store {str(self.path)!r} is a study's store; choose another folder for the import")
        path = self.path / IMPORT_FILE
        if path.exists():
            held = self.origin()
            if held != origin:
                which = f"{held.kind} {held.address}" + (f" ({held.only})" if held.only else "")
                raise InputError(f"--store {str(self.path)!r} holds runs of {which}; choose another folder")
            return
        self.write(IMPORT_FILE, origin.model_dump_json(indent=1) + "\n")

    def origin(self) -> Origin:
        """Returns where the runs come from.

        Raises:
          InputError: the folder is no import.
        """
        path = self.path / IMPORT_FILE
        if not path.exists():
            raise InputError(f"--store {str(self.path)!r} holds no {IMPORT_FILE}; import into it first")
        return parse(Origin, path.read_text(encoding="utf-8"), str(path))

    def folder_of(self, name: str) -> Path:
        """Returns the folder of a run; names that file systems could mistake are replaced by their fingerprint."""
        return self.path / "runs" / (name if SAFE_NAME.fullmatch(name) else f"run-{fingerprint_text(name)}")

    def version_of(self, name: str) -> str | None:
        """Returns the version of a run that is here whole, or None."""
        try:
            document = json.loads((self.folder_of(name) / "run.json").read_text(encoding="utf-8"))
            return str(document["version"]) if document["id"] == name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, run: RawRun, history: "pa.Table | None") -> RawRun:
        """Writes a run, its history first; returns it with the history's counts."""
        import pyarrow.parquet as pq

        folder = self.folder_of(run.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if history is not None:
                temporary = folder / f".history.{uuid.uuid4().hex[:8]}.tmp"
                pq.write_table(history, temporary)
                temporary.replace(folder / "history.parquet")
                counts = {"history_rows": history.num_rows, "history_columns": count_values(history)}
                run = run.model_copy(update=counts)
        except OSError as error:
            raise InputError(
                f"cannot write {str(folder)!r} ({error.strerror or error}); choose a folder that can be written"
            ) from None
        write_atomically(epath.Path(folder / "run.json"), run.model_dump_json(indent=1) + "\n")
        return run

    def runs(self) -> Iterator[RawRun]:
        """Yields the runs in the order of their names.

        Raises:
          CorruptStoreError: a run's file does not say what it should.
        """
        for path in sorted((self.path / "runs").glob("*/run.json")):
            try:
                yield parse(RawRun, path.read_text(encoding="utf-8"), str(path))
            except (InputError, UnicodeDecodeError) as error:
                raise CorruptStoreError(
                    f"corrupt run: {error}; delete that file, and the same command fetches it"
                ) from None

    def history(self, run: RawRun, names: list[str]) -> dict[str, Values]:
        """Returns columns of a run's history by name; those that it lacks are left out.

        Raises:
          CorruptStoreError: the file cannot be read.
        """
        path = self.folder_of(run.id) / "history.parquet"
        if run.history_rows is None:
            return {}
        try:
            return read_history(path, names)
        except (OSError, ValueError) as error:
            raise CorruptStoreError(
                f"{path} cannot be read ({str(error).splitlines()[0]}); delete run.json beside it, and import again"
            ) from None
