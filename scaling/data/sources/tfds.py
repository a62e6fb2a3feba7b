"""Labelled examples and documents of TensorFlow Datasets, by random access and without TensorFlow."""

import dataclasses
import functools
import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.source import Rows, Source, count_numbers, draw_evaluation, drop_single, hold_out
from scaling.data.sources.tfds_folders import (
    check_disjoint,
    count_examples,
    describe_tensor,
    find_feature,
    first_line,
    open_dataset,
)
from scaling.specs.base import InputError, canonical_json, fingerprint_text
from scaling.specs.data import TfdsDocuments, TfdsSource
from scaling.specs.task import Objective
from scaling.store.cache import load_or_make

# Decoded inputs up to so many bytes are read at once, and kept in the cache folder; others are read when asked for.
IN_MEMORY_BYTES = 256 * 2**20
CHUNK = 1024  # records read in one call


def load_tfds(spec: TfdsSource, evaluation_size: int) -> Source:
    """Returns a labelled dataset; its inputs in memory where they are small, else read and decoded when asked for.

    Raises:
      InputError: the dataset is not prepared or cannot be; a split or feature is missing, malformed or of a kind that
        no model takes; the evaluation split shares examples with the training split.
    """
    builder = open_dataset(spec, "data.source")
    decoder = _make_decoder(builder, spec)
    objective, declared = _find_label_kind(builder, spec)
    sizes = {spec.split: count_examples(builder, "data.source.split", spec.split)}
    if spec.evaluation_split is None:
        eval_split = spec.split
        pool, held_out = hold_out(spec.name, sizes[spec.split], evaluation_size)
    else:
        eval_split = spec.evaluation_split
        sizes[eval_split] = count_examples(builder, "data.source.evaluation_split", eval_split)
        check_disjoint(builder, spec.split, eval_split)
        pool = np.arange(sizes[spec.split])
        held_out = np.sort(draw_evaluation(sizes[eval_split], evaluation_size))
    num_bytes = sum(sizes.values()) * decoder.num_features * decoder.dtype.itemsize
    in_memory = num_bytes <= IN_MEMORY_BYTES
    splits = {split: _load_split(builder, spec, decoder, split, size, in_memory) for split, size in sizes.items()}
    labels = {split: _check_labels(spec, split, kept[0], declared) for split, kept in splits.items()}
    rows: dict[str, Rows] = {split: kept[1] for split, kept in splits.items()}
    eval_labels = labels[eval_split][held_out]
    if objective == "regress":
        num_classes = count_numbers(eval_labels)
    else:
        num_classes = declared or 1 + int(max(labels[spec.split].max(), eval_labels.max(initial=0)))

    def identity(split: str, chosen: np.ndarray) -> str:
        return _hash({**_identify(builder, split, spec), "labels": spec.labels}, chosen, labels[split])

    return Source(
        name=spec.name,
        inputs=_take(rows[spec.split], pool),
        labels=labels[spec.split][pool],
        eval_inputs=_take(rows[eval_split], held_out),
        eval_labels=eval_labels,
        num_classes=num_classes,
        objective=objective,
        scaling="unit" if decoder.image_shape else "standardize",
        unit=1 / 255 if decoder.dtype == np.uint8 else 1.0,
        image_shape=decoder.image_shape,
        facts={"dataset": builder.info.full_name, "split": spec.split, "evaluation_split": eval_split},
        known_hashes=None if in_memory else (identity(spec.split, pool), identity(eval_split, held_out)),
    )


def iterate_documents(spec: TfdsDocuments, field: str = "data.source.documents") -> Iterator[tuple[bytes, str]]:
    """Returns an iterator over a split's texts in the order of the disk, each in UTF-8 and with where it stands.

    Args:
      spec: which texts.
      field: where the specification stands, for messages.

    Raises:
      InputError: the dataset is not prepared or cannot be, or it has no such split or text.
    """
    builder = open_dataset(spec, field)
    feature = find_feature(builder, f"{field}.field", spec.field)
    size = count_examples(builder, f"{field}.split", spec.split)
    if describe_tensor(feature) != ((), "O"):
        raise InputError(
            f"{field}.field={spec.field!r} is {first_line(feature)} in {spec.name} and must be text; choose another one"
        )
    records = Records(os.fspath(builder.data_path), spec.split, (spec.field,))

    def texts() -> Iterator[tuple[bytes, str]]:
        for place, record in records.iterate(size):
            yield record[spec.field], f"{spec.name} {spec.split} example {place}"

    return texts()


# --- labels ---------------------------------------------------------------------------------------------------------


def _find_label_kind(builder: Any, spec: TfdsSource) -> tuple[Objective, int | None]:
    """Returns the objective, and the number of classes where the dataset declares it."""
    feature = find_feature(builder, "data.source.labels", spec.labels)
    shape, kind = describe_tensor(feature)
    if kind not in ("iubf" if shape == () else "f" if len(shape) == 1 and shape[0] else ""):
        raise InputError(
            f"data.source.labels={spec.labels!r} is {first_line(feature)} in {spec.name} and must be a class, a "
            "number or a vector of floats; choose another feature"
        )
    return ("regress" if kind == "f" else "classify"), getattr(feature, "num_classes", None)


def _check_labels(spec: TfdsSource, split: str, labels: np.ndarray, declared: int | None) -> np.ndarray:
    """Returns labels as a source has them, [n] int32 or float32, or [n, M] float32."""
    if labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels).reshape(len(labels), -1).all(axis=1))
        allowed, kept = "finite", drop_single(labels.astype(np.float32))
    else:
        bad = np.flatnonzero((labels < 0) | (labels >= (declared or np.iinfo(np.int32).max)))
        allowed, kept = f"in 0 … {declared - 1}" if declared else "a class from 0 on", labels.astype(np.int32)
    if len(bad):
        raise InputError(
            f"data.source.labels={spec.labels!r} is {labels[bad[0]]} in example {bad[0]} of {spec.name} {split} and "
            f"must be {allowed}; choose a split that has labels, or another feature"
        )
    return kept


# --- inputs ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Decoder:
    """How a feature becomes a row of numbers.

    Attributes:
      name: the name of the feature.
      shape: the shape of one example; (H, W, C) for images.
      dtype: the dtype of the row; uint8 for images of bytes, else float32.
      is_encoded: whether it is stored as PNG or JPEG.
      side: the side of the square that images of any size are made to fit.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    is_encoded: bool
    side: int | None

    @property
    def num_features(self) -> int:
        """F."""
        return int(np.prod(self.shape))

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(H, W, C) of images."""
        return (self.shape[0], self.shape[1], self.shape[2]) if len(self.shape) == 3 else None

    def __call__(self, value: Any) -> np.ndarray:
        """Returns the row, [F], that a stored value becomes."""
        if not self.is_encoded:
            return np.asarray(value, self.dtype).reshape(-1)
        from PIL import Image

        # Always Pillow, though TFDS prefers OpenCV where that is installed: JPEGs must not differ between machines.
        channels = self.shape[-1]
        try:
            with Image.open(io.BytesIO(value)) as image:
                if self.side is not None:
                    from scaling.data.sources.images import fit_square

                    return fit_square(image, self.side, channels).reshape(-1)
                return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(-1)
        except (OSError, ValueError) as error:
            raise InputError(
                f"data.source.inputs={self.name!r} cannot be decoded: {first_line(error)}; prepare the dataset again"
            ) from error


def _make_decoder(builder: Any, spec: TfdsSource) -> Decoder:
    import tensorflow_datasets as tfds

    feature = find_feature(builder, "data.source.inputs", spec.inputs)
    is_encoded = isinstance(feature, tfds.features.Image)
    shape, kind = describe_tensor(feature)
    told = f"data.source.inputs={spec.inputs!r} is {first_line(feature)} in {spec.name}"
    if kind not in "iubf" or len(shape) > 3:
        raise InputError(f"{told} and must be an image or numbers; choose another feature (text is for kind='text')")
    is_bytes = np.dtype(feature.get_tensor_info().np_dtype) == np.uint8
    if is_encoded and not (is_bytes and shape[-1] in (1, 3)):
        raise InputError(f"{told} and must have 1 or 3 channels of 8 bits; choose another feature")
    if spec.side is not None:
        if not is_encoded:
            raise InputError(f"{told} and no image, which data.source.side={spec.side} is for; leave it out")
        shape = (spec.side, spec.side, shape[-1])
    if None in shape:
        remedy = "set data.source.side to the pixels that all are resized to" if is_encoded else "choose another one"
        raise InputError(f"{told} and varies in size; {remedy}")
    if is_bytes and len(shape) == 2:
        shape = (*shape, 1)
    dtype = np.dtype(np.uint8 if is_bytes and len(shape) == 3 else np.float32)
    return Decoder(spec.inputs, tuple(int(dim or 0) for dim in shape), dtype, is_encoded, spec.side)


# --- reading --------------------------------------------------------------------------------------------------------


class Records:
    """Some features of a split's examples, by index, images still encoded; opened when read, anew in each process."""

    def __init__(self, folder: str, split: str, names: tuple[str, ...]) -> None:
        self._how = folder, split, names
        self._lock = threading.Lock()
        self._opened: tuple[Any, Callable[[bytes], dict[str, Any]]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Records, self._how

    def read(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns the examples at indices [k], in their order.

        Raises:
          InputError: a file is damaged.
        """
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
        source, parse = self._opened
        try:
            records = source.__getitems__(indices.tolist())
        except (RuntimeError, ValueError, IndexError) as error:  # of ArrayRecord's own code
            raise self._damaged(first_line(error)) from None
        if not all(records):  # what ArrayRecord makes of a file that was cut off
            raise self._damaged("a record is empty")
        return [parse(record) for record in records]

    def _damaged(self, why: str) -> InputError:
        folder, split, _ = self._how
        return InputError(f"{folder}: a file of {split} is damaged or missing ({why}); prepare the dataset again")

    def iterate(self, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields index and example of the first `size`."""
        for start in range(0, size, CHUNK):
            yield from enumerate(self.read(np.arange(start, min(start + CHUNK, size))), start)

    def _open(self) -> tuple[Any, Callable[[bytes], dict[str, Any]]]:
        import tensorflow_datasets as tfds

        folder, split, names = self._how
        builder = tfds.builder_from_directory(folder)
        # A data source decodes every feature of an example. A dict of the wanted ones passes over the others.
        features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in names})
        encoded = [name for name in names if isinstance(features[name], tfds.features.Image)]
        decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
        source = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES, file_format="array_record"
        )
        return source, functools.partial(features.deserialize_example_np, decoders=decoders)


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsRows:
    """Examples of a split, read and decoded when they are asked for, [n, F]; from any thread or process.

    Attributes:
      records: the records of the split.
      decoder: the decoder of the inputs.
      chosen: [n] which of the split's examples.
    """

    records: Records
    decoder: Decoder
    chosen: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, F)."""
        return len(self.chosen), self.decoder.num_features

    @property
    def dtype(self) -> np.dtype:
        """Of the rows."""
        return self.decoder.dtype

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns examples [k, F], by a slice or an array [k] of indices, in that order."""
        chosen = self.chosen[indices]
        rows = np.empty((len(chosen), self.decoder.num_features), self.dtype)
        for start in range(0, len(chosen), CHUNK):
            for place, record in enumerate(self.records.read(chosen[start : start + CHUNK]), start):
                rows[place] = self.decoder(record[self.decoder.name])
        return rows


def _take(rows: Rows, chosen: np.ndarray) -> Rows:
    """Returns some of the rows; all of them without a copy."""
    if len(chosen) == len(rows):
        return rows
    return dataclasses.replace(rows, chosen=rows.chosen[chosen]) if isinstance(rows, TfdsRows) else rows[chosen]


def _load_split(
    builder: Any, spec: TfdsSource, decoder: Decoder, split: str, size: int, in_memory: bool
) -> tuple[np.ndarray, Rows]:
    """Returns the labels of a split, [n], and its inputs, [n, F]; what is read is kept in the cache folder."""
    folder = os.fspath(builder.data_path)
    names = (spec.labels, spec.inputs) if in_memory else (spec.labels,)

    def read() -> list[np.ndarray]:
        labels: list[float] = []
        inputs = np.empty((size if in_memory else 0, decoder.num_features), decoder.dtype)
        for place, record in Records(folder, split, names).iterate(size):
            labels.append(record[spec.labels])
            if in_memory:
                inputs[place] = decoder(record[spec.inputs])
                if not np.isfinite(inputs[place]).all():
                    raise InputError(
                        f"data.source.inputs={spec.inputs!r} is not finite in example {place} of {spec.name} {split}; "
                        "choose another feature, or slices without it"
                    )
        return [np.asarray(labels), inputs]

    # The metadata's time changes when somebody prepares the same version again with other content.
    metadata = builder.data_path / "dataset_info.json"
    written = metadata.stat().mtime if "://" in folder else Path(folder, metadata.name).stat().st_mtime_ns
    content = {**_identify(builder, split, spec), "labels": spec.labels, "in_memory": in_memory}
    key = fingerprint_text(canonical_json({**content, "folder": folder, "written": str(written)}))
    labels, inputs = load_or_make(f"tfds-{key}", read)
    if in_memory:
        return labels, inputs
    return labels, TfdsRows(Records(folder, split, (spec.inputs,)), decoder, np.arange(size))


def _identify(builder: Any, split: str, spec: TfdsSource) -> dict[str, Any]:
    """Returns what tells a split's inputs apart from others without reading them, wherever they are prepared."""
    return {
        "dataset": builder.info.full_name,
        "split": split,
        "splits": {
            name: [[int(length) for length in info.shard_lengths], int(info.num_bytes)]
            for name, info in builder.info.splits.items()
        },
        "inputs": spec.inputs,
        "side": spec.side,
    }


def _hash(identity: dict[str, Any], chosen: np.ndarray, labels: np.ndarray) -> str:
    """Returns the sha256 of an identity, of which examples are chosen and of their labels."""
    digest = hashlib.sha256(canonical_json(identity).encode())
    digest.update(chosen.astype("<i8").tobytes())
    digest.update(labels[chosen].tobytes())
    return digest.hexdigest()
