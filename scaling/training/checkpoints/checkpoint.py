"""Checkpoints that can be trusted: written beside the training, proved by checksums, restored on any mesh.

A checkpoint is a folder named by its step. Orbax writes `arrays/`; `manifest.json` is published last and atomically. It
holds the step, the identity of what was trained, the caller's facts, shape and dtype of every leaf, and the sha256 of
every file. A folder without manifest is no checkpoint: that is what a kill in mid-save leaves, and what deletion, which
removes the manifest first, passes through. So at every moment the newest manifest speaks of a complete checkpoint.
"""

import concurrent.futures
import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from scaling.specs.base import InputError, Json, canonical_json
from scaling.store.files import is_local, write_atomically
from scaling.training.checkpoints.arrays import StoredLeaf, as_wanted, describe_leaf, named_leaves, say_leaf
from scaling.training.checkpoints.checksums import (
    DamageError,
    FileProof,
    find_damage,
    prove_files,
    seal,
    sync_folder,
    unseal,
)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ARRAYS = "arrays"


class CorruptCheckpointError(ValueError):
    """There are checkpoints, and none of them can be trusted; the message names the damage and the remedy."""


class CheckpointWriteError(RuntimeError):
    """A checkpoint could not be written; those before it are untouched."""


class Restored(NamedTuple):
    """What `Checkpoints.restore` found.

    Attributes:
      step: the step of the newest checkpoint that holds what was written.
      arrays: the tree that was saved, in the structure and on the devices that were asked for.
      facts: as they were saved.
      passed_over: one line for every newer checkpoint, which was damaged, and how; tell the user.
    """

    step: int
    arrays: Any
    facts: Json
    passed_over: tuple[str, ...]


class Checkpoints:
    """A folder of one job's checkpoints, local or on any `etils.epath` path that all processes see.

    With several processes, each makes its own `Checkpoints` and calls the same methods in the same order. One job at a
    time may use a folder: opening it removes what earlier, killed ones left unfinished.

    A checkpoint takes one copy of the arrays in host memory until it is written, and the folder holds at most
    `keep` + 1 of them for a moment.
    """

    def __init__(self, folder: epath.Path, *, identity: Mapping[str, str], keep: int = 2) -> None:
        """Opens a folder, which need not exist.

        Args:
          folder: the folder of this job alone.
          identity: what must not differ for a checkpoint to be used, for instance the cell's fingerprint and the
            version of the code; one text for each key.
          keep: how many checkpoints to keep; with 1 there is none to fall back on when it is damaged.

        Raises:
          InputError: `keep` is below 1.
        """
        if keep < 1:
            raise InputError(f"checkpoints.keep={keep} must be at least 1; 2 leave one to fall back on")
        self._folder = epath.Path(Path(os.fspath(folder)).absolute()) if is_local(folder) else folder
        self._identity, self._keep = dict(identity), keep
        logging.getLogger("absl").addFilter(_is_not_orbax)
        self._arrays = ocp.AsyncCheckpointer(
            # Compression would shrink weights by 8 % and double the time of a restore.
            ocp.PyTreeCheckpointHandler(use_zarr3=True, use_compression=False),
            # Else a folder that cannot be made keeps threads waiting for it, and the program from ending, for minutes.
            async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
        )
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: concurrent.futures.Future[int] | None = None
        self._damaged: list[int] = []
        self._newest = max(self._steps(), default=-1)
        if jax.process_index() == 0:
            self._remove_unfinished()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> None:
        """Returns when every save is complete.

        Raises:
          CheckpointWriteError: the last save failed; raised once.
        """
        running, self._running = self._running, None
        if running is not None:
            self._newest = running.result()

    def close(self) -> None:
        """Waits for the last save and lets go of all threads; a closed folder can be opened anew.

        Raises:
          CheckpointWriteError: the last save failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._arrays.close()

    # --- saving -----------------------------------------------------------------------------------------------------

    def save(self, step: int, arrays: Any, facts: Mapping[str, Any]) -> None:
        """Copies the arrays off the device and writes them in the background; they may be donated when it returns.

        A save still under way is waited for. The checkpoint exists once its files are hashed; then older ones go.

        Args:
          step: optimiser steps done; more than in every earlier checkpoint.
          arrays: any tree of JAX arrays, typed keys among them, NumPy arrays and Python numbers.
          facts: what else a resumed run must know, as JSON that reads back as it is: keys are texts, no tuples, no NaN.

        Raises:
          InputError: the step is not new, the facts are not JSON, or a leaf cannot be saved.
          CheckpointWriteError: the save before this one failed.
        """
        self.wait()
        if step <= self._newest:
            raise InputError(
                f"step={step} is not beyond the newest checkpoint in {str(self._folder)!r}, of step {self._newest}; "
                "restore it first, or give another folder"
            )
        leaves = {name: StoredLeaf.of(name, leaf) for name, leaf in named_leaves(arrays).items()}
        content = {
            "version": FORMAT_VERSION,
            "step": step,
            "identity": self._identity,
            "facts": _check_facts(facts),
            "leaves": {name: stored.describe() for name, stored in leaves.items()},
        }
        if jax.process_index() == 0:  # what a failed save or a damaged checkpoint, passed over, left in the way
            for old in {step, *self._damaged}:
                self._remove(old)
        self._damaged = []
        try:
            writable = {name: stored.data for name, stored in leaves.items() if stored.data.size}
            self._arrays.save(self._path(step) / ARRAYS, args=ocp.args.PyTreeSave(writable))
        except OSError as error:
            raise self._write_error(step, error) from error
        self._running = self._thread.submit(self._commit, step, content)

    def _commit(self, step: int, content: Json) -> int:
        """Returns the step when all processes' arrays are on disk and, in process 0, the manifest is published."""
        try:
            self._arrays.wait_until_finished()
            if jax.process_index() == 0:
                files = prove_files(self._path(step) / ARRAYS)
                write_atomically(self._path(step) / MANIFEST, seal({**content, "files": files}))
                for folder in (self._path(step), self._folder):
                    sync_folder(folder)
                for old in sorted(self._steps())[: -self._keep]:
                    self._remove(old)
        except (OSError, RuntimeError, ValueError) as error:  # what Orbax, TensorStore and a full disk raise
            if jax.process_index() == 0:
                with contextlib.suppress(OSError):  # what cannot be removed now is at the next opening
                    self._remove(step)
            raise self._write_error(step, error) from error
        return step

    def _write_error(self, step: int, error: Exception) -> CheckpointWriteError:
        reason = str(error).partition("\n")[0] or type(error).__name__
        return CheckpointWriteError(
            f"the checkpoint of step {step} in {str(self._folder)!r} could not be written ({reason}); those before it "
            "are untouched; free some space, or give a folder that can be written"
        )

    # --- restoring --------------------------------------------------------------------------------------------------

    def restore(self, like: Any) -> Restored | None:
        """Returns the newest checkpoint that holds what was written, or None where there is none at all.

        All files of a checkpoint are read and compared with their checksums first; processes share that work.

        Args:
          like: a tree of the structure that was saved, whose leaves say what to return: a `jax.ShapeDtypeStruct` with
            a sharding, or a JAX array, whose sharding is taken, for an array on those devices, which may be others than
            at the save; a `ShapeDtypeStruct` without one for an array on the default device; a NumPy array or a Python
            number for its like. Or a function that gives such a tree, from the facts.

        Raises:
          InputError: the checkpoint is of another identity, or its leaves differ from those of `like`.
          CorruptCheckpointError: there are checkpoints, all damaged. Nothing is removed.
        """
        self.wait()
        damaged: dict[int, str] = {}
        for step in sorted(_exchange(sorted(self._steps()))[0], reverse=True):
            manifest, damage = self._read_manifest(step)
            damage = _first(_exchange(damage))
            if damage is None:
                tree = like(manifest["facts"]) if callable(like) else like
                wanted = named_leaves(tree)
                self._check(step, manifest, wanted)
                share = list(manifest["files"].items())[jax.process_index() :: jax.process_count()]
                proofs = ((name, FileProof(*proof)) for name, proof in share)
                damage = _first(_exchange(find_damage(self._path(step) / ARRAYS, proofs)))
            if damage is None:
                arrays = self._read(step, manifest["leaves"], tree, wanted)
                self._newest, self._damaged = step, list(damaged)
                passed_over = tuple(f"step {bad} is damaged: {why}" for bad, why in damaged.items())
                return Restored(step, arrays, manifest["facts"], passed_over)
            damaged[step] = damage
        if damaged:
            damages = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
            raise CorruptCheckpointError(
                f"every checkpoint in {str(self._folder)!r} is damaged ({damages}); bring the folder back from a copy, "
                "or delete it to train from the start"
            )
        return None

    def _read_manifest(self, step: int) -> tuple[Json, str | None]:
        """Returns the manifest of a step and None, or what is wrong with it."""
        try:
            manifest = unseal((self._path(step) / MANIFEST).read_bytes().decode(errors="replace"))
        except (DamageError, OSError) as error:
            return {}, f"{MANIFEST} {error}"
        return manifest, None if manifest["step"] == step else f"{MANIFEST} is of step {manifest['step']}"

    def _check(self, step: int, manifest: Json, wanted: Json) -> None:
        """Refuses a checkpoint of another format or identity, or with other leaves than are wanted."""
        where = f"the checkpoint of step {step} in {str(self._folder)!r}"
        if manifest["version"] != FORMAT_VERSION:
            raise InputError(
                f"{where} has format {manifest['version']} where this code reads {FORMAT_VERSION}; use the code that "
                "wrote it, or delete the folder to train from the start"
            )
        saved = manifest["identity"]
        for key in sorted({*saved, *self._identity}):
            if saved.get(key) != self._identity.get(key):
                raise InputError(
                    f"{where} is of {key}={saved.get(key)!r}, not {self._identity.get(key)!r}; continue with what "
                    "wrote it, or delete the folder to train from the start"
                )
        expected = {name: describe_leaf(leaf) for name, leaf in wanted.items()}
        for name in sorted({*manifest["leaves"], *expected}):
            held, wants = manifest["leaves"].get(name), expected.get(name)
            if held is None or wants is None or any(held[key] != wants[key] for key in wants):
                raise InputError(
                    f"{where} holds {say_leaf(held)} as {name!r}, where {say_leaf(wants)} is wanted; restore into the "
                    "same model and optimiser, or delete the folder to train from the start"
                )

    def _read(self, step: int, leaves: Json, like: Any, wanted: Json) -> Any:
        """Returns the arrays of a checked step in the structure of `like`."""
        how = {
            name: ocp.ArrayRestoreArgs(sharding=leaf.sharding)
            if getattr(leaf, "sharding", None) is not None
            else ocp.RestoreArgs(restore_type=np.ndarray)
            for name, leaf in wanted.items()
            if 0 not in leaves[name]["shape"]
        }
        read = ocp.args.PyTreeRestore(item=dict.fromkeys(how, 0), restore_args=how)
        arrays = self._arrays.restore(self._path(step) / ARRAYS, args=read)
        restored = [as_wanted(arrays.get(name), leaves[name], leaf) for name, leaf in wanted.items()]
        return jax.tree.unflatten(jax.tree.structure(like), restored)

    # --- the folder -------------------------------------------------------------------------------------------------

    def _path(self, step: int) -> epath.Path:
        return self._folder / f"{step:010d}"

    def _folders(self) -> Iterator[tuple[int, epath.Path]]:
        """Yields step and path of what may be a checkpoint; whatever else is in the folder is left alone."""
        if self._folder.exists():
            for path in self._folder.iterdir():
                if path.name.isdecimal() and self._path(int(path.name)).name == path.name:
                    yield int(path.name), path

    def _steps(self) -> set[int]:
        return {step for step, path in self._folders() if (path / MANIFEST).exists()}

    def _remove(self, step: int) -> None:
        """Removes a checkpoint: its manifest first, so that a kill in between leaves an unfinished one."""
        path = self._path(step)
        if path.exists():
            (path / MANIFEST).unlink(missing_ok=True)
            sync_folder(path)
            path.rmtree()

    def _remove_unfinished(self) -> None:
        for step, path in list(self._folders()):
            if not (path / MANIFEST).exists():
                self._remove(step)


def _check_facts(facts: Mapping[str, Any]) -> Json:
    """Returns a copy of the facts that later changes do not reach."""
    try:
        copy: Json = json.loads(canonical_json(facts))
    except (TypeError, ValueError) as error:
        raise InputError(f"facts={facts!r} cannot be kept as JSON ({error}); give texts, numbers and lists") from None
    if copy != facts:
        raise InputError(f"facts={facts!r} read back from JSON as {copy!r}; give keys as texts, and lists for tuples")
    return copy


def _exchange(value: Any) -> list[Any]:
    """Returns every process's JSON value, in the order of processes, so that all decide alike."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(np.max(multihost_utils.process_allgather(np.int32(len(text)))))
    texts = multihost_utils.process_allgather(np.pad(text, (0, longest - len(text)), constant_values=ord(" ")))
    return [json.loads(bytes(row)) for row in np.asarray(texts, np.uint8)]


def _first(values: list[str | None]) -> str | None:
    return next((value for value in values if value is not None), None)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a log record is of another library: Orbax logs every stage, and at length what it raises, too."""
    return "orbax" not in Path(record.pathname).parts
