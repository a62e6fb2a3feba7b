"""Labelled examples of every source: a training pool and a fixed evaluation set that never meet."""

import dataclasses
import functools
import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scaling.cell import DataSpec, DigitsSource, IdxSource, StdlibSource, TableSource
from scaling.data import stdlib
from scaling.data.subsets import shuffled
from scaling.spec import InputError

# The split of a source into pool and evaluation set is part of the data, not of a cell: one seed for everyone.
SPLIT_SEED = 0x5EED

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Examples in memory.

    Attributes:
      name: for people.
      inputs: the pool; [n, T] uint8 tokens below `vocab_size`, or [n, F] numbers.
      labels: [n] int32 in 0 … num_classes - 1.
      eval_inputs, eval_labels: the fixed evaluation set, disjoint from the pool.
      num_classes: K.
      vocab_size: V for token inputs; None for numbers.
      scaling: `unit` when `inputs * unit` is of order one; `standardize` when columns have units of their own and a
        learner scales them by the mean and standard deviation of its own subset.
      unit: the factor for `unit` scaling.
      image_shape: (H, W, C) where the F numbers are an image, row by row.
      sha256: hash of the pool's inputs and labels.
      eval_sha256: hash of the evaluation set's.
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    eval_inputs: np.ndarray
    eval_labels: np.ndarray
    num_classes: int
    vocab_size: int | None = None
    scaling: str = "unit"
    unit: float = 1.0
    image_shape: tuple[int, int, int] | None = None

    @property
    def size(self) -> int:
        """Examples in the pool."""
        return len(self.labels)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the pool."""
        return _hash_arrays(self.inputs, self.labels)

    @functools.cached_property
    def eval_sha256(self) -> str:
        """Hash of the evaluation set."""
        return _hash_arrays(self.eval_inputs, self.eval_labels)


def load_source(data: DataSpec) -> Source:
    """Returns the examples of a cell's source, once per process and source.

    Raises:
      InputError: a file is missing or malformed, or the evaluation set leaves nothing to train on.
    """
    return _load(data.source.model_dump_json(), data.source, data.evaluation_size)


def check_size(data: DataSpec, source: Source) -> None:
    """Checks that a subset of the asked size and order exists.

    Raises:
      InputError: m exceeds the pool, or cannot be balanced.
    """
    if data.size > source.size:
        raise InputError(
            f"data.size={data.size} exceeds the {source.size} training examples of {source.name}; "
            f"choose at most {source.size}"
        )
    if data.order == "balanced":
        smallest = int(np.bincount(source.labels, minlength=source.num_classes).min())
        most = smallest * source.num_classes
        if data.size < source.num_classes:
            raise InputError(
                f"data.size={data.size} is below the {source.num_classes} classes of {source.name}, so data.order="
                f"'balanced' is impossible; choose at least {source.num_classes}"
            )
        if data.size > most:
            raise InputError(
                f"data.size={data.size} with data.order='balanced' needs more than the {smallest} examples of the "
                f"rarest class of {source.name}; choose at most {most}, or data.order='stratified'"
            )


@functools.lru_cache(maxsize=4)
def _load(key: str, spec: Any, evaluation_size: int) -> Source:
    del key
    source = LOADERS[type(spec)](spec, evaluation_size)
    if len(source.eval_labels) < evaluation_size:
        raise InputError(
            f"data.evaluation_size={evaluation_size} exceeds the {len(source.eval_labels)} evaluation examples of "
            f"{source.name}; choose at most {len(source.eval_labels)}"
        )
    return source


def _load_stdlib(spec: StdlibSource, evaluation_size: int) -> Source:
    inputs, labels, eval_inputs, eval_labels = stdlib.draw_windows(
        spec.characters_before, spec.characters_after, spec.num_windows, evaluation_size, SPLIT_SEED
    )
    return Source(
        name="stdlib",
        inputs=inputs,
        labels=labels,
        eval_inputs=eval_inputs,
        eval_labels=eval_labels,
        num_classes=len(stdlib.CLASSES),
        vocab_size=stdlib.VOCAB_SIZE,
    )


def _load_digits(spec: DigitsSource, evaluation_size: int) -> Source:
    from sklearn.datasets import load_digits

    del spec
    images, labels = load_digits(return_X_y=True)
    return _split("digits", images.astype(np.float32), labels, evaluation_size, unit=1 / 16, image_shape=(8, 8, 1))


def _load_table(spec: TableSource, evaluation_size: int) -> Source:
    path = _existing(Path(spec.path), "data.source.path")
    with _open(path) as file:
        lines = file.read().decode("utf-8").splitlines()[1 if spec.header else 0 :]
    rows = [line.split(spec.delimiter) for line in lines if line.strip()]
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise InputError(f"{path}: rows have {sorted(widths)} columns; give a table whose rows are equally long")
    columns = widths.pop()
    if not -columns <= spec.label_column < columns:
        raise InputError(
            f"data.source.label_column={spec.label_column} is outside the {columns} columns of {path}; "
            f"choose 0 to {columns - 1}"
        )
    names = [row.pop(spec.label_column).strip() for row in rows]
    try:
        inputs = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}; every column but the label must be a number (has it a header line?)"
        ) from None
    if not np.isfinite(inputs).all():
        raise InputError(f"{path}: holds a value that is not finite; remove or fill such rows first")
    classes = {name: index for index, name in enumerate(sorted(set(names)))}
    labels = np.array([classes[name] for name in names])
    return _split(path.name, inputs, labels, evaluation_size, scaling="standardize")


def _load_idx(spec: IdxSource, evaluation_size: int) -> Source:
    folder = Path(spec.folder)
    if not folder.is_dir():
        raise InputError(f"data.source.folder={spec.folder!r} does not exist; give the folder of the idx files")
    images, labels, eval_images, eval_labels = (_read_idx(folder, name) for name in IDX_FILES)
    for kind, x, y in (("train", images, labels), ("t10k", eval_images, eval_labels)):
        if len(x) != len(y):
            raise InputError(f"{folder}: {len(x)} {kind} images but {len(y)} labels; the files do not belong together")
    chosen = shuffled(len(eval_labels), SPLIT_SEED)[:evaluation_size]
    return Source(
        name=folder.name,
        inputs=images.reshape(len(images), -1),
        labels=labels.astype(np.int32),
        eval_inputs=eval_images.reshape(len(eval_images), -1)[chosen],
        eval_labels=eval_labels.astype(np.int32)[chosen],
        num_classes=int(labels.max()) + 1,
        unit=1 / 255,
        image_shape=(*images.shape[1:], 1),
    )


LOADERS: dict[type, Callable[[Any, int], Source]] = {
    StdlibSource: _load_stdlib,
    DigitsSource: _load_digits,
    TableSource: _load_table,
    IdxSource: _load_idx,
}


def _split(name: str, inputs: np.ndarray, labels: np.ndarray, evaluation_size: int, **how: Any) -> Source:
    """Returns a source whose evaluation set is drawn once and for all from examples without a split of their own."""
    if evaluation_size >= len(labels):
        raise InputError(
            f"data.evaluation_size={evaluation_size} leaves none of the {len(labels)} examples of {name} to train on; "
            f"choose fewer than {len(labels)}"
        )
    order = shuffled(len(labels), SPLIT_SEED)
    held_out, pool = np.sort(order[:evaluation_size]), np.sort(order[evaluation_size:])
    labels = labels.astype(np.int32)
    return Source(
        name=name,
        inputs=inputs[pool],
        labels=labels[pool],
        eval_inputs=inputs[held_out],
        eval_labels=labels[held_out],
        num_classes=int(labels.max()) + 1,
        **how,
    )


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Returns the array of an idx file (http://yann.lecun.com/exdb/mnist): magic, big-endian sizes, values."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if not found:
        raise InputError(
            f"data.source.folder={str(folder)!r} lacks {name} or {name}.gz; give the folder of the idx files"
        )
    with _open(found[0]) as file:
        content = file.read()
    rank = content[3] if len(content) >= 4 else 0
    if rank == 0 or content[:2] != b"\0\0" or content[2] not in IDX_TYPES or len(content) < 4 + 4 * rank:
        raise InputError(f"{found[0]} is no idx file; give the original file")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, np.dtype(IDX_TYPES[content[2]]), offset=4 + 4 * rank)
    if values.size != np.prod(shape):
        raise InputError(f"{found[0]} holds {values.size} values, but its head says {shape}; give the whole file")
    return values.reshape(shape)


def _existing(path: Path, field: str) -> Path:
    if not path.is_file():
        raise InputError(f"{field}={str(path)!r} does not exist; give the path of a file")
    return path


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _hash_arrays(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
