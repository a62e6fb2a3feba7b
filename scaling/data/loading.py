"""From a cell's data to the examples of its source, once per process."""

import functools
from typing import assert_never

import numpy as np

from scaling.data.order.subsets import Subset, draw_subset
from scaling.data.source import Source
from scaling.specs.base import InputError
from scaling.specs.cell import Cell
from scaling.specs.data import (
    AnySource,
    ArraysSource,
    BreastCancerSource,
    CifarSource,
    CodeSource,
    DataSpec,
    DiabetesSource,
    DigitsSource,
    IdxSource,
    ImageFolderSource,
    MarkovSource,
    NpzSource,
    StdlibSource,
    TableSource,
    TeacherSource,
    TextSource,
    TfdsSource,
    WineSource,
)


def load_source(data: DataSpec) -> Source:
    """Returns the examples of a cell's source, once per process and source.

    Raises:
      InputError: a file is missing or malformed, or the evaluation set leaves nothing to train on.
    """
    return _load(data.source.model_dump_json(), data.source, data.evaluation_size)


@functools.lru_cache(maxsize=4)
def _load(key: str, spec: AnySource, evaluation_size: int) -> Source:
    del key
    source = _read(spec, evaluation_size)
    if source.evaluation_size < evaluation_size:
        raise InputError(
            f"data.evaluation_size={evaluation_size} exceeds the {source.evaluation_size} evaluation examples of "
            f"{source.name}; choose at most {source.evaluation_size}"
        )
    return source


def _read(spec: AnySource, evaluation_size: int) -> Source:
    """Returns what a source holds. To add one: its specification, its module among the sources, its case here."""
    # Each module is imported when it is asked for: some need libraries that are large, or not everywhere.
    match spec:
        case StdlibSource():
            from scaling.data.sources import bundled

            return bundled.load_stdlib(spec, evaluation_size)
        case DigitsSource():
            from scaling.data.sources import bundled

            return bundled.load_digits(spec, evaluation_size)
        case BreastCancerSource():
            from scaling.data.sources import bundled

            return bundled.load_breast_cancer(spec, evaluation_size)
        case WineSource():
            from scaling.data.sources import bundled

            return bundled.load_wine(spec, evaluation_size)
        case DiabetesSource():
            from scaling.data.sources import bundled

            return bundled.load_diabetes(spec, evaluation_size)
        case IdxSource():
            from scaling.data.sources import idx

            return idx.load_idx(spec, evaluation_size)
        case ArraysSource():
            from scaling.data.sources import arrays

            return arrays.load_arrays(spec, evaluation_size)
        case NpzSource():
            from scaling.data.sources import arrays

            return arrays.load_npz(spec, evaluation_size)
        case CodeSource():
            from scaling.data.sources import code

            return code.load_code(spec, evaluation_size)
        case CifarSource():
            from scaling.data.sources import cifar

            return cifar.load_cifar(spec, evaluation_size)
        case TableSource():
            from scaling.data.sources import tables

            return tables.load_table(spec, evaluation_size)
        case ImageFolderSource():
            from scaling.data.sources import images

            return images.load_image_folder(spec, evaluation_size)
        case TextSource():
            from scaling.data.text import source

            return source.load_text(spec, evaluation_size)
        case TfdsSource():
            from scaling.data.sources import tfds

            return tfds.load_tfds(spec, evaluation_size)
        case TeacherSource():
            from scaling.data.sources import synthetic

            return synthetic.load_teacher(spec, evaluation_size)
        case MarkovSource():
            from scaling.data.sources import synthetic

            return synthetic.load_markov(spec, evaluation_size)
        case _:
            assert_never(spec)


def check_data(data: DataSpec, source: Source) -> None:
    """Checks that a subset of the asked size, order and treatment exists.

    Raises:
      InputError: m exceeds the pool, or its examples cannot be ordered, changed or scaled as asked.
    """
    if data.size > source.size:
        raise InputError(
            f"data.size={data.size} exceeds the {source.size} training examples of {source.name}; "
            f"choose at most {source.size}"
        )
    needs_classes = {"order": data.order in ("stratified", "balanced"), "label_noise": data.label_noise > 0}
    for field, is_needed in needs_classes.items():
        if is_needed and (source.objective != "classify" or source.num_classes < 2):
            raise InputError(
                f"data.{field}={getattr(data, field)!r} needs classes, which {source.name} does not have; "
                f"leave data.{field} out"
            )
    if data.order == "grouped" and source.groups is None:
        raise InputError(
            f"data.order='grouped' needs groups, which {source.name} does not name; name a group column of the source, "
            "or choose data.order='independent'"
        )
    for name in ("augmentation", "normalize"):
        if getattr(data, name) and source.image_shape is None:
            raise InputError(f"data.{name} is for images, which {source.name} does not hold; leave data.{name} out")
    if data.order == "balanced":
        _check_balance(data, source)


def _check_balance(data: DataSpec, source: Source) -> None:
    assert source.labels is not None  # noqa: S101  (the source has classes)
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


def draw_cell(cell: Cell) -> Subset:
    """Returns the examples that a cell sees, drawn from its source.

    Raises:
      InputError: the data is missing or does not allow this cell.
    """
    source = load_source(cell.data)
    check_data(cell.data, source)
    return draw_subset(cell.data, source, cell.seed)
