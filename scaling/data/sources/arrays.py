"""Sources that are arrays already: .npz and .npy files, and arrays given from Python."""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from scaling.data.source import (
    Rows,
    SelectedRows,
    Source,
    count_numbers,
    draw_evaluation,
    drop_single,
    hold_out,
    split_examples,
)
from scaling.specs.base import InputError, suggest
from scaling.specs.data import ArraysSource, NpzSource, Task
from scaling.store.cache import cache_folder, publish_arrays

# Identifiers and times taken for classes would ask for output layers that fit nowhere; extreme classification, the
# largest that is done, has 670,000 (Amazon-670K).
MAX_CLASSES = 1 << 20

# Fields of the specification that name arrays, and the names that arrays are kept under.
ARRAY_NAMES = ("inputs", "labels", "evaluation_inputs", "evaluation_labels", "groups")

# How many rows are looked at together, so that mapped files never are in memory whole.
CHUNK_ROWS = 1 << 14


# --- arrays given from Python ---------------------------------------------------------------------------------------


def keep_arrays(
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    evaluation_inputs: ArrayLike | None = None,
    evaluation_labels: ArrayLike | None = None,
    task: Task = "classify",
    vocab_size: int | None = None,
    groups: ArrayLike | None = None,
) -> ArraysSource:
    """Returns the source that stands for arrays, which are kept in the cache folder under the hash of their content.

    Args:
      inputs: [n, F] numbers, [n, H, W] or [n, H, W, C] images, uint8 or floats of order one, or [n, T] tokens.
      labels: [n] classes, integers from 0, or numbers: [n], or [n, M] for M of them.
      evaluation_inputs: alike, to evaluate on; None holds some of the first out.
      evaluation_labels: theirs.
      task: `classify` or `regress`.
      vocab_size: V where inputs are tokens.
      groups: [n] integers; examples of one group never meet in pool and evaluation set.

    Raises:
      InputError: the arrays are not what they must be, or cannot be written.
    """
    if (evaluation_inputs is None) != (evaluation_labels is None):
        raise InputError("keep_arrays: evaluation_inputs and evaluation_labels go together; give both, or neither")
    if task not in ("classify", "regress"):
        raise InputError(f"keep_arrays: task={task!r} is unknown; choose 'classify' or 'regress'")
    given = (inputs, labels, evaluation_inputs, evaluation_labels, groups)
    try:
        arrays = {
            name: np.ascontiguousarray(array)
            for name, array in zip(ARRAY_NAMES, given, strict=True)
            if array is not None
        }
    except ValueError as error:
        raise InputError(f"keep_arrays: rows are not equally long ({error}); pad or cut them") from None
    _check(arrays, task, vocab_size, {name: f"keep_arrays: {name}" for name in arrays})
    sha256 = _hash_arrays(arrays, task, vocab_size)
    path = _kept_path(sha256)
    try:
        publish_arrays(path, task=np.array(task), vocab_size=np.array(vocab_size or 0), **arrays)
    except OSError as error:
        raise InputError(
            f"keep_arrays: {path.parent} cannot be written ({error.strerror}); make room there, or set XDG_CACHE_HOME"
        ) from None
    return ArraysSource(sha256=sha256)


def load_arrays(spec: ArraysSource, evaluation_size: int) -> Source:
    """Returns arrays that were kept in the cache folder of this machine.

    Raises:
      InputError: they are not there, or no longer what they were.
    """
    path = _kept_path(spec.sha256)
    where = f"data.source.sha256={spec.sha256!r}"
    if not path.is_file():
        raise InputError(
            f"{where} is not in {path.parent}; call keep_arrays again on this machine, or save the arrays as .npz and "
            "use data.source.kind='npz'"
        )
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        task, vocab_size = str(arrays.pop("task")), int(arrays.pop("vocab_size")) or None
        intact = _hash_arrays(arrays, task, vocab_size) == spec.sha256
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        intact = False
    if not intact:
        raise InputError(f"{where}: {path} is damaged; call keep_arrays again, which replaces it")
    calls = {name: f"{where}: {name}" for name in arrays}
    return make_source(f"arrays-{spec.sha256[:12]}", arrays, task, vocab_size, calls, evaluation_size, mapped=False)


def _kept_path(sha256: str) -> Path:
    return cache_folder() / "arrays" / f"{sha256}.npz"


def _hash_arrays(arrays: Mapping[str, np.ndarray], task: str, vocab_size: int | None) -> str:
    """Returns the sha256 of names, dtypes, shapes and content, and of what they are for."""
    digest = hashlib.sha256(f"{task}\n{vocab_size}\n".encode())
    for name in ARRAY_NAMES:
        if name in arrays:
            digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
            digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


# --- .npz and .npy --------------------------------------------------------------------------------------------------


def load_npz(spec: NpzSource, evaluation_size: int) -> Source:
    """Returns the named arrays of an .npz file, or of a folder of .npy files, which are memory-mapped.

    Images that are uint8 are taken for 0 … 255, others for numbers of order one; columns of numbers are standardised.
    A given evaluation set is drawn in an order that is the same for every size.

    Raises:
      InputError: the file is missing, damaged or pickled, or its arrays are not what they must be.
    """
    path = Path(spec.path)
    names = {name: getattr(spec, name) for name in ARRAY_NAMES if getattr(spec, name) is not None}
    arrays = _open_folder(path, names) if path.is_dir() else _open_npz(path, names)
    calls = {name: f"{path}: data.source.{name}={array!r}" for name, array in names.items()}
    return make_source(path.name, arrays, spec.task, spec.vocab_size, calls, evaluation_size, mapped=path.is_dir())


def _open_npz(path: Path, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the arrays of an .npz file by the names of the fields that name them."""
    if not path.is_file():
        raise InputError(
            f"data.source.path={str(path)!r} does not exist; give the path of an .npz file or a folder of .npy files"
        )
    with path.open("rb") as file:  # which says why it cannot be read, as `is_zipfile` does not
        is_zip = zipfile.is_zipfile(file)
    if not is_zip:
        raise InputError(
            f"data.source.path={str(path)!r} is no whole .npz file; write it (again) with numpy.savez, or give a "
            "folder of .npy files"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            for field, name in names.items():
                _check_name(path, field, name, file.files)
            return {field: _read_array(path, file, name) for field, name in names.items()}
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"data.source.path={str(path)!r} is damaged ({error}); write it again") from None


def _open_folder(path: Path, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns the mapped arrays of a folder's .npy files by the names of the fields that name them."""
    present = sorted(file.stem for file in path.iterdir() if file.suffix == ".npy")
    for field, name in names.items():
        _check_name(path, field, name, present)
    return {field: _read_array(path, None, name) for field, name in names.items()}


def _check_name(path: Path, field: str, name: str, present: list[str]) -> None:
    if not present:
        raise InputError(f"data.source.path={str(path)!r} holds no arrays; give an .npz file or a folder of .npy files")
    if name not in present:
        raise InputError(
            f"data.source.{field}={name!r} is no array of {path}, which holds {', '.join(map(repr, sorted(present)))}; "
            f"{suggest(name, present)}"
        )


def _read_array(path: Path, file: Any, name: str) -> np.ndarray:
    """Returns a numeric array of an open .npz file, or of a folder, where `file` is None."""
    try:
        array = file[name] if file is not None else np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "bject" in str(error) or "pickle" in str(error):
            raise InputError(
                f"{path}: array {name!r} holds pickled Python objects, which are not read since they can run code; "
                "save it with a numeric dtype"
            ) from None
        raise InputError(f"{path}: array {name!r} is damaged or empty ({error}); write it again") from None
    except EOFError as error:
        if file is not None:
            raise
        raise InputError(f"{path}: array {name!r} is empty ({error}); write it again") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: {name!r} is no array; save it with numpy.save or numpy.savez")
    return array


# --- from checked arrays to a source --------------------------------------------------------------------------------


def make_source(
    name: str,
    arrays: Mapping[str, np.ndarray],
    task: str,
    vocab_size: int | None,
    calls: Mapping[str, str],
    evaluation_size: int,
    mapped: bool,
) -> Source:
    """Returns the source of arrays; those that are mapped stay so.

    Args:
      name: the name of the source.
      arrays: by the names of `ARRAY_NAMES`.
      task: `classify` or `regress`.
      vocab_size: V of tokens.
      calls: how messages call each array.
      evaluation_size: examples of the evaluation set.
      mapped: whether the arrays are memory-mapped.
    """
    labels, eval_labels, dtype, how = _check(arrays, task, vocab_size, calls)
    inputs = arrays["inputs"].reshape(len(labels), -1)
    groups = arrays.get("groups")
    if eval_labels is None and not mapped:
        return split_examples(name, inputs.astype(dtype, copy=False), labels, evaluation_size, groups, **how)
    if groups is not None:
        groups = np.unique(groups, return_inverse=True)[1]
    num_classes = count_numbers(labels) if task == "regress" else int(labels.max()) + 1
    if eval_labels is None:
        pool, held_out = hold_out(name, len(labels), evaluation_size, groups)
        eval_inputs, eval_labels = inputs[held_out], labels[held_out]
        rows: Rows = SelectedRows(inputs, pool, dtype)
        labels, groups = labels[pool], None if groups is None else groups[pool]
    else:
        chosen = draw_evaluation(len(eval_labels), evaluation_size)
        eval_inputs = arrays["evaluation_inputs"].reshape(len(eval_labels), -1)[chosen]
        eval_labels = eval_labels[chosen]
        rows = SelectedRows(inputs, None, dtype) if mapped else inputs.astype(dtype, copy=False)
    return Source(
        name=name,
        inputs=rows,
        labels=labels,
        eval_inputs=np.array(eval_inputs, dtype),
        eval_labels=eval_labels,
        num_classes=num_classes,
        groups=groups,
        **how,
    )


def _check(
    arrays: Mapping[str, np.ndarray], task: str, vocab_size: int | None, calls: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray | None, np.dtype, dict[str, Any]]:
    """Returns checked labels of pool and evaluation set, the dtype of inputs, and further fields of the source.

    Raises:
      InputError: the arrays are not what they must be.
    """
    inputs = arrays["inputs"]
    dtype, how = _check_inputs(inputs, vocab_size, calls["inputs"])
    labels = _check_labels(arrays["labels"], len(inputs), task, calls["labels"])
    if task == "classify" and labels.max() >= MAX_CLASSES:
        raise InputError(
            f"{calls['labels']} holds class {labels.max()}, which is not below {MAX_CLASSES}; number the classes from "
            "0, or set task='regress' for numbers"
        )
    eval_labels = None
    if "evaluation_inputs" in arrays:
        eval_inputs, called = arrays["evaluation_inputs"], calls["evaluation_inputs"]
        if _check_inputs(eval_inputs, vocab_size, called) != (dtype, how) or eval_inputs.shape[1:] != inputs.shape[1:]:
            raise InputError(
                f"{called} is {_describe(eval_inputs)} but {calls['inputs']} is {_describe(inputs)}; save both alike"
            )
        called = calls["evaluation_labels"]
        eval_labels = _check_labels(arrays["evaluation_labels"], len(eval_inputs), task, called)
        if eval_labels.shape[1:] != labels.shape[1:]:
            raise InputError(f"{called} has other numbers a label than {calls['labels']}; save both alike")
        if task == "classify" and eval_labels.max() > labels.max():
            raise InputError(
                f"{called} holds class {eval_labels.max()}, which is above those of the training examples, 0 to "
                f"{labels.max()}; leave such examples out"
            )
    groups = arrays.get("groups")
    if groups is not None and (groups.shape != labels.shape[:1] or groups.dtype.kind not in "biu"):
        raise InputError(
            f"{calls['groups']} is {_describe(groups)}; groups must be one integer for each of the {len(labels)} inputs"
        )
    return labels, eval_labels, dtype, how | ({"objective": "regress"} if task == "regress" else {})


def _check_inputs(inputs: np.ndarray, vocab_size: int | None, called: str) -> tuple[np.dtype, dict[str, Any]]:
    """Returns the dtype that inputs are read in, and how a source describes them."""
    if inputs.dtype.kind not in "biuf" or not 2 <= inputs.ndim <= 4 or not inputs.size:
        raise InputError(
            f"{called} is {_describe(inputs)}; inputs must be [n, F] numbers, [n, H, W] or [n, H, W, C] images, or "
            "[n, T] tokens"
        )
    if vocab_size is not None:
        return _check_tokens(inputs, vocab_size, called), {"vocab_size": vocab_size}
    dtype = np.dtype(np.float32)
    if inputs.dtype.kind == "f":
        for start, chunk in _chunks(inputs):
            with np.errstate(over="ignore"):
                finite = np.isfinite(chunk.astype(dtype)).reshape(len(chunk), -1).all(axis=1)
            if not finite.all():
                raise InputError(
                    f"{called} is not finite (in float32) in row {start + int(np.argmin(finite))}; remove or fill such "
                    "rows first"
                )
    if inputs.ndim == 2:
        return dtype, {"scaling": "standardize"}
    image_shape = (*inputs.shape, 1)[1:4]
    if inputs.dtype == np.uint8:
        return inputs.dtype, {"unit": 1 / 255, "image_shape": image_shape}
    if inputs.dtype.kind != "f":
        raise InputError(
            f"{called} is {_describe(inputs)}; images must be uint8 from 0 to 255, or floats of order one: convert them"
        )
    return dtype, {"image_shape": image_shape}


def _check_tokens(inputs: np.ndarray, vocab_size: int, called: str) -> np.dtype:
    """Returns the smallest dtype that holds tokens below V."""
    if inputs.dtype.kind not in "iu" or inputs.ndim != 2:
        raise InputError(f"{called} is {_describe(inputs)}; tokens must be [n, T] integers, or leave vocab_size out")
    for start, chunk in _chunks(inputs):
        inside = ((chunk >= 0) & (chunk < vocab_size)).all(axis=1)
        if not inside.all():
            row = int(np.argmin(inside))
            token = next(int(x) for x in chunk[row] if not 0 <= x < vocab_size)
            raise InputError(
                f"{called} holds token {token} in row {start + row}, which is not from 0 to {vocab_size - 1}; set "
                "vocab_size above every token"
            )
    return np.dtype(np.uint8 if vocab_size <= 1 << 8 else np.uint16 if vocab_size <= 1 << 16 else np.int32)


def _check_labels(labels: np.ndarray, num_inputs: int, task: str, called: str) -> np.ndarray:
    """Returns labels as int32 classes [n], or as float32 numbers, [n] or [n, M]."""
    is_whole = labels.ndim == 1 or (task == "regress" and labels.ndim == 2 and labels.shape[1] > 0)
    if not is_whole or len(labels) != num_inputs:
        several = ", [n, M] for M numbers each" if task == "regress" else ""
        raise InputError(
            f"{called} is {_describe(labels)}; give one label for each of the {num_inputs} inputs{several}"
        )
    if task == "regress":
        if labels.dtype.kind not in "biuf":
            raise InputError(f"{called} is {_describe(labels)}; labels to regress on must be numbers")
        with np.errstate(over="ignore"):
            numbers = np.asarray(labels).astype(np.float32)
        finite = np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
        if not finite.all():
            raise InputError(f"{called} is not finite (in float32) in row {int(np.argmin(finite))}; remove such rows")
        return drop_single(numbers)
    if labels.dtype.kind not in "biu":
        raise InputError(
            f"{called} is {_describe(labels)}; classes must be integers from 0, or set task='regress' for numbers"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise InputError(f"{called} holds class {worst}; classes must be integers from 0 to K - 1")
    return np.asarray(labels).astype(np.int32)


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Returns the rows of an array, so many together, each time with the number of the first."""
    return ((start, array[start : start + CHUNK_ROWS]) for start in range(0, len(array), CHUNK_ROWS))


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"
