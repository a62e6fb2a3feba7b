"""Labelled examples and documents of Hugging Face's `datasets`: saved to disk, of data files, or of the Hub."""

import contextlib
import dataclasses
import io
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.source import Source
from scaling.data.sources.arrays import make_source
from scaling.specs.base import InputError, canonical_json, fingerprint_text, suggest
from scaling.specs.data import HuggingFaceDocuments, HuggingFaceSource
from scaling.store.cache import cache_folder

# Inputs up to so many bytes are held in memory; others are read from the cache folder when asked for.
IN_MEMORY_BYTES = 256 * 2**20
CHUNK = 1024  # rows read at once
# What a folder holds that `save_to_disk` wrote, of several splits or of one.
SAVED_SPLITS, SAVED_SPLIT = "dataset_dict.json", "state.json"
GREY_MODES = ("1", "L")


def load_hugging_face(spec: HuggingFaceSource, evaluation_size: int) -> Source:
    """Returns a labelled dataset; what was decoded is kept in the cache folder.

    Raises:
      InputError: the package is not installed, the dataset is not there, or a split or column is missing, malformed or
        of a kind that no model takes; the evaluation split shares examples with the training split, or has
        other classes.
    """
    splits = _open_splits(spec, "data.source")
    train_pieces = _find_pieces(splits, spec.split, spec.name, "data.source.split")
    pieces = {"": (spec.split, train_pieces)}
    if spec.evaluation_split is not None:
        held_out = _find_pieces(splits, spec.evaluation_split, spec.name, "data.source.evaluation_split")
        _check_disjoint(spec, train_pieces, held_out)
        pieces["evaluation_"] = (spec.evaluation_split, held_out)
    _check_classes(spec, splits, [piece[0] for _, found in pieces.values() for piece in found])
    chosen = {side: (split, _take(splits, found)) for side, (split, found) in pieces.items()}
    train = chosen[""][1]
    is_regression, declared = _find_label_kind(train, spec)
    columns = (spec.inputs,) if isinstance(spec.inputs, str) else spec.inputs
    for column in columns:
        _check_column(train, column, spec.name, "data.source.inputs")
    arrays, calls = dict[str, np.ndarray](), dict[str, str]()
    for side, (split, dataset) in chosen.items():
        inputs, labels = _load_split(spec, columns, dataset, split)
        arrays |= {f"{side}inputs": inputs, f"{side}labels": _check_labels(spec, split, labels, declared)}
        calls |= {
            f"{side}inputs": f"data.source.inputs={spec.inputs!r} of {spec.name} {split}",
            f"{side}labels": f"data.source.labels={spec.labels!r} of {spec.name} {split}",
        }
    mapped = sum(array.nbytes for array in arrays.values()) > IN_MEMORY_BYTES
    source = make_source(
        Path(spec.name).name, arrays, "regress" if is_regression else "classify", None, calls, evaluation_size, mapped
    )
    return dataclasses.replace(
        source,
        num_classes=source.num_classes if is_regression else max(source.num_classes, declared or 0),
        facts=_describe(spec, train),
    )


def iterate_texts(spec: HuggingFaceDocuments, field: str) -> Iterator[tuple[bytes, str]]:
    """Returns an iterator over a split's texts in their order, each in UTF-8 and with where it stands.

    Args:
      spec: which texts.
      field: where the specification stands, for messages.

    Raises:
      InputError: the package is not installed, or there is no such dataset, split or text.
    """
    dataset = _open_split(spec, field)
    _check_column(dataset, spec.field, spec.name, f"{field}.field")
    if getattr(dataset.features[spec.field], "dtype", None) not in ("string", "large_string"):
        raise InputError(
            f"{field}.field={spec.field!r} is {dataset.features[spec.field]} in {spec.name} and must be text; choose "
            "another one"
        )

    def texts() -> Iterator[tuple[bytes, str]]:
        for start, table in _tables(dataset, (spec.field,)):
            for place, text in enumerate(table[spec.field].to_pylist(), start):
                yield (text or "").encode(), f"{spec.name} {spec.split} example {place}"

    return texts()


def identify_texts(spec: HuggingFaceDocuments, field: str) -> list[str | int]:
    """Returns what tells one state of the texts from another without reading them.

    Raises:
      InputError: the package is not installed, or there is no such dataset or split.
    """
    dataset = _open_split(spec, field)
    return [dataset._fingerprint, spec.split, len(dataset)]


# --- datasets and their splits --------------------------------------------------------------------------------------


def _import_datasets(field: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"{field}.kind='hugging_face' needs scaling[hugging_face], but the package datasets is not installed; "
            "pip install 'scaling[hugging_face]'"
        ) from None
    return datasets


@contextlib.contextmanager
def _asking(datasets: Any, download: bool) -> Iterator[None]:
    """Lets the Hub be asked or not, and never told that a dataset was loaded; the packages read these when they ask."""
    from huggingface_hub import constants

    switches = [(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)]
    if not download:
        switches += [(datasets.config, "HF_HUB_OFFLINE", True), (constants, "HF_HUB_OFFLINE", True)]
    before = [getattr(module, name) for module, name, _ in switches]
    for module, name, value in switches:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(switches, before, strict=True):
            setattr(module, name, value)


def _open_splits(spec: HuggingFaceSource | HuggingFaceDocuments, field: str) -> Mapping[str, Any]:
    """Returns all splits of a dataset by their names."""
    datasets = _import_datasets(field)
    folder = Path(spec.name).expanduser()
    is_saved = any((folder / name).is_file() for name in (SAVED_SPLITS, SAVED_SPLIT))
    if is_saved:
        for name in ("config", "revision"):
            if getattr(spec, name) is not None:
                raise InputError(
                    f"{field}.{name}={getattr(spec, name)!r} is for datasets that are loaded by their name, and "
                    f"{spec.name} was saved to disk; leave it out"
                )
    try:
        with _asking(datasets, spec.download):
            if is_saved:
                found = datasets.load_from_disk(str(folder))
            else:
                name = str(folder) if folder.is_dir() else spec.name
                if spec.download and not folder.is_dir():
                    print(f"{field}.download=true: asking the Hub for {spec.name}", file=sys.stderr)
                found = datasets.load_dataset(name, spec.config, revision=spec.revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        remedy = "name a folder that save_to_disk wrote, one of data files, or a dataset that was downloaded"
        if not (spec.download or folder.exists()):
            remedy += f", or set {field}.download=true"
        raise InputError(
            f"{field}.name={spec.name!r} cannot be loaded ({' '.join(str(error).split())[:200]}); {remedy}"
        ) from None
    splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
    if spec.revision is not None and not is_saved:
        _check_revision(spec, splits, field)
    return splits


def _check_revision(spec: HuggingFaceSource | HuggingFaceDocuments, splits: Mapping[str, Any], field: str) -> None:
    """Refuses a copy of this machine that is of another commit: offline, the package takes whichever it has."""
    asked = f"{field}.revision={spec.revision!r}"
    if Path(spec.name).expanduser().is_dir():
        raise InputError(f"{asked} is for datasets of the Hub, and {spec.name} is a folder; leave it out")
    found = _find_commit(next(iter(splits.values())))
    if not spec.download and spec.revision not in (found, *_names_of(spec.name, found)):
        raise InputError(
            f"{asked} is not known to be the copy of {spec.name} on this machine, which is commit {found}; name that, "
            f"or set {field}.download=true"
        )


def _find_commit(dataset: Any) -> str:
    """Returns the commit that a dataset of the Hub is of: what the package calls the folder that it prepares."""
    files = dataset.cache_files
    return Path(files[0]["filename"]).parent.name if files else "unknown"


def _names_of(name: str, commit: str) -> list[str]:
    """Returns the branches and tags that stood for a commit when files of a dataset were last fetched."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.relative_to(folder).as_posix() for path in files if path.read_text().strip() == commit]


def _find_pieces(splits: Mapping[str, Any], split: str, name: str, field: str) -> list[tuple[str, int, int]]:
    """Returns (split, first, end) of the rows that are meant by `train[:50%]+test`, say."""
    from datasets import ReadInstruction

    sizes = {known: len(dataset) for known, dataset in splits.items()}
    for part in split.split("+"):
        known = part.partition("[")[0].strip()
        if known not in sizes:
            raise InputError(f"{field}={split!r}: {name} has no split {known!r}; {suggest(known, sizes)}")
    try:
        instructions = ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:
        raise InputError(f"{field}={split!r} is malformed ({error}); write train, or train[:90%]") from None
    pieces = [
        (piece.splitname, piece.from_ or 0, sizes[piece.splitname] if piece.to is None else piece.to)
        for piece in instructions
    ]
    if not sum(end - first for _, first, end in pieces):
        raise InputError(f"{field}={split!r} holds no example of {name}; choose another one")
    return pieces


def _take(splits: Mapping[str, Any], pieces: Sequence[tuple[str, int, int]]) -> Any:
    """Returns the rows of pieces as one dataset."""
    from datasets import concatenate_datasets

    parts = [
        splits[name] if end - first == len(splits[name]) else splits[name].select(range(first, end))
        for name, first, end in pieces
    ]
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _check_disjoint(
    spec: HuggingFaceSource, train: Sequence[tuple[str, int, int]], held_out: Sequence[tuple[str, int, int]]
) -> None:
    for name, first, end in train:
        for other, its_first, its_end in held_out:
            num_shared = min(end, its_end) - max(first, its_first)
            if name == other and num_shared > 0:
                raise InputError(
                    f"data.source.evaluation_split={spec.evaluation_split!r} shares {num_shared} examples with "
                    f"data.source.split={spec.split!r}; choose slices that do not overlap"
                )


def _open_split(spec: HuggingFaceDocuments, field: str) -> Any:
    splits = _open_splits(spec, field)
    return _take(splits, _find_pieces(splits, spec.split, spec.name, f"{field}.split"))


def _describe(spec: HuggingFaceSource, dataset: Any) -> dict[str, int | float | str]:
    import datasets

    facts = {
        "dataset": spec.name,
        "split": spec.split,
        "fingerprint": dataset._fingerprint,
        "version": None if dataset.info.version is None else str(dataset.info.version),
        "datasets_version": datasets.__version__,
        "config": spec.config,
        "evaluation_split": spec.evaluation_split,
        "revision": spec.revision,
    }
    return {name: value for name, value in facts.items() if value is not None}


# --- columns --------------------------------------------------------------------------------------------------------


def _check_column(dataset: Any, column: str, name: str, field: str) -> None:
    if column not in dataset.features:
        raise InputError(f"{field}={column!r} is no column of {name}; {suggest(column, dataset.features)}")


def _find_label_kind(dataset: Any, spec: HuggingFaceSource) -> tuple[bool, int | None]:
    """Returns whether labels are numbers to regress on, and how many classes the dataset declares."""
    _check_column(dataset, spec.labels, spec.name, "data.source.labels")
    feature = dataset.features[spec.labels]
    dtype = str(getattr(feature, "dtype", ""))
    if not dtype.startswith(("int", "uint", "float", "bool")) or hasattr(feature, "shape"):
        raise InputError(
            f"data.source.labels={spec.labels!r} is {feature} in {spec.name} and must be a class, an integer or a "
            "float; choose another column"
        )
    return dtype.startswith("float"), getattr(feature, "num_classes", None)


def _check_classes(spec: HuggingFaceSource, splits: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuses splits whose classes are other ones or have another order: one number would mean two things."""
    classes = {name: getattr(splits[name].features.get(spec.labels), "names", None) for name in names}
    first = names[0]
    for name in names:
        if classes[name] != classes[first]:
            raise InputError(
                f"data.source.labels={spec.labels!r} has the classes {classes[first]} in {spec.name} {first} and "
                f"{classes[name]} in {name}; cast both to one ClassLabel, and save them again"
            )


def _check_labels(spec: HuggingFaceSource, split: str, labels: np.ndarray, declared: int | None) -> np.ndarray:
    if declared is not None:
        bad = np.flatnonzero((labels < 0) | (labels >= declared))
        if len(bad):
            raise InputError(
                f"data.source.labels={spec.labels!r} is {labels[bad[0]]} in example {bad[0]} of {spec.name} {split} "
                f"and must be in 0 … {declared - 1}; choose a split that has labels, or another column"
            )
    return labels


def _tables(dataset: Any, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yields (first row, Arrow table of some columns), images still encoded."""
    arrow = dataset.select_columns(list(columns)).with_format("arrow")
    for start in range(0, len(dataset), CHUNK):
        yield start, arrow[start : start + CHUNK]


def _load_split(
    spec: HuggingFaceSource, columns: Sequence[str], dataset: Any, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs [n, …] and labels [n] of a split, mapped from the cache folder, where they are decoded once."""
    files = [[file["filename"], *_state(Path(file["filename"]))] for file in dataset.cache_files]
    identity = [dataset._fingerprint, len(dataset), files, list(columns), spec.labels, spec.side, split]
    folder = cache_folder() / "hugging_face" / fingerprint_text(canonical_json(identity))
    paths = [folder / "inputs.npy", folder / "labels.npy"]
    if not all(path.is_file() for path in paths):
        partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}.partial")
        try:
            partial.mkdir(parents=True)
            _write(spec, columns, dataset, split, partial)
            with contextlib.suppress(OSError):  # another process was faster
                partial.replace(folder)
        except OSError as error:
            raise InputError(
                f"cannot write {partial} ({error.strerror or error}); free space, or set XDG_CACHE_HOME to a folder "
                "that can be written"
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    inputs, labels = (np.load(path, mmap_mode="r") for path in paths)
    return inputs, np.array(labels)


def _state(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _write(spec: HuggingFaceSource, columns: Sequence[str], dataset: Any, split: str, folder: Path) -> None:
    """Decodes a split into two .npy files."""
    inputs: np.memmap | None = None
    labels = []
    for start, table in _tables(dataset, (*dict.fromkeys((*columns, spec.labels)),)):
        where = f"of {spec.name} {split} from example {start} on"
        labels.append(_numbers(table[spec.labels], f"data.source.labels={spec.labels!r}", where))
        rows = _decode(spec, columns, dataset, table, start, where)
        if inputs is None:
            inputs = np.lib.format.open_memmap(folder / "inputs.npy", "w+", rows.dtype, (len(dataset), *rows.shape[1:]))
        if rows.shape[1:] != inputs.shape[1:]:
            raise InputError(
                f"data.source.inputs={spec.inputs!r} varies in size {where}: {list(rows.shape[1:])}, and "
                f"{list(inputs.shape[1:])} before; set data.source.side for images, or choose another column"
            )
        inputs[start : start + len(rows)] = rows
    assert inputs is not None  # noqa: S101  (no split is empty)
    inputs.flush()
    np.save(folder / "labels.npy", np.concatenate(labels))


def _decode(
    spec: HuggingFaceSource, columns: Sequence[str], dataset: Any, table: Any, start: int, where: str
) -> np.ndarray:
    """Returns the inputs of a table, [k, …]."""
    from datasets import Image

    are_images = [isinstance(dataset.features[column], Image) for column in columns]
    if are_images == [True]:
        return np.stack(list(_decode_images(spec, columns[0], table, start, where)))
    field = f"data.source.inputs={spec.inputs!r}"
    if any(are_images):
        raise InputError(f"{field} are several columns, one of them images; name the images alone, or numbers")
    if spec.side is not None:
        raise InputError(f"{field} is no image, which data.source.side={spec.side} is for; leave it out")
    found = [_numbers(table[column], field, where) for column in columns]
    if len(found) == 1 and found[0].ndim > 1:
        return found[0]
    wide = [rows.reshape(len(rows), -1) for rows in found]
    return np.concatenate(wide, axis=1, dtype=np.result_type(np.float32, *wide))


def _decode_images(spec: HuggingFaceSource, column: str, table: Any, start: int, where: str) -> Iterator[np.ndarray]:
    """Yields images [H, W, C], uint8, of one size and number of channels."""
    from PIL import Image

    from scaling.data.sources.images import DECODING_ERRORS, DEEP_MODES, fit_square

    shape: tuple[int, ...] | None = None
    for place, stored in enumerate(table[column].to_pylist(), start):
        told = f"data.source.inputs={column!r} in example {place} of {where.partition(' from ')[0].removeprefix('of ')}"
        if stored is None or (stored["bytes"] is None and stored["path"] is None):
            raise InputError(f"{told} is missing; leave such examples out")
        try:
            content = io.BytesIO(stored["bytes"]) if stored["bytes"] is not None else stored["path"]
            with Image.open(content) as image:
                channels = 1 if image.mode in GREY_MODES else 3
                if spec.side is not None:
                    pixels = fit_square(image, spec.side, channels)
                elif image.mode in DEEP_MODES:
                    raise ValueError(f"pixels have more than eight bits (mode {image.mode})")
                else:
                    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
                    pixels = pixels.reshape(*pixels.shape[:2], channels)
        except DECODING_ERRORS as error:
            raise InputError(f"{told} cannot be decoded ({error}); repair it, or leave it out") from None
        shape = pixels.shape if shape is None else shape
        if pixels.shape != shape:
            remedy = "convert all to grey, or all to colour"
            if pixels.shape[:2] != shape[:2]:
                remedy = "set data.source.side to the pixels that all are resized to"
            raise InputError(f"{told} is {list(pixels.shape)}, and those before {list(shape)}; {remedy}")
        yield pixels


def _numbers(column: Any, field: str, where: str) -> np.ndarray:
    """Returns a column of numbers, or of lists of them that are equally long, [k, …]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    shape = [len(array)]
    while True:
        if array.null_count:
            raise InputError(f"{field} has missing values {where}; fill them, or leave such examples out")
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        elif (
            pa.types.is_list(array.type)
            or pa.types.is_large_list(array.type)
            or pa.types.is_fixed_size_list(array.type)
        ):
            lengths = pc.unique(pc.list_value_length(array)).to_pylist()
            if len(lengths) != 1:
                raise InputError(
                    f"{field} varies in length {where} ({min(lengths)} to {max(lengths)}); pad or cut them, or choose "
                    "another column"
                )
            shape.append(lengths[0])
            array = array.flatten()
        else:
            break
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise InputError(f"{field} is {array.type} {where} and must be numbers or an image; choose another column")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)
