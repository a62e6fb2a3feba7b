"""From a cell's data to the examples of its source, once per process."""

import dataclasses
import functools
from typing import assert_never

import numpy as np

from scaling.data.order.subsets import Subset, draw_subset
from scaling.data.source import Source, task_shape
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
    HuggingFaceSource,
    IdxSource,
    ImageFolderSource,
    MarkovSource,
    MixtureDocuments,
    NpzSource,
    StdlibSource,
    TableSource,
    TeacherSource,
    TextSource,
    TfdsSource,
    WineSource,
)
from scaling.specs.metrics import check_metrics


def load_source(data: DataSpec) -> Source:
    """Returns the examples of a cell's source, once per process and source.

    Raises:
      InputError: a file is missing or malformed, or the evaluation set leaves nothing to train on.
    """
    _check_declared_size(data)
    return _load(data.source.model_dump_json(), data.source, data.evaluation_size)


def _check_declared_size(data: DataSpec) -> None:
    """Checks m against the size of a pool that its specification declares, before the pool is made."""
    source = data.source
    match source:
        case StdlibSource():
            field, declared = "num_windows", source.num_windows
        case TeacherSource():
            field, declared = "num_examples", source.num_examples
        case MarkovSource():
            field, declared = "num_sequences", source.num_sequences
        case _:
            return
    if data.size > declared:
        raise InputError(
            f"data.size={data.size} exceeds the {declared} training examples of {source.kind}; choose at most "
            f"{declared}, or a larger data.source.{field}"
        )


@functools.lru_cache(maxsize=4)
def _load(key: str, spec: AnySource, evaluation_size: int) -> Source:
    del key
    source = _read_whole(spec, evaluation_size)
    if source.evaluation_size < evaluation_size:
        raise InputError(
            f"data.evaluation_size={evaluation_size} exceeds the {source.evaluation_size} evaluation examples of "
            f"{source.name}; choose at most {source.evaluation_size}"
        )
    return source


def _read_whole(spec: AnySource, evaluation_size: int) -> Source:
    """Returns what a source holds; what the file system refuses is one line, also of files that are read later."""
    try:
        source = _read(spec, evaluation_size)
        for rows in (source.inputs, source.eval_inputs):
            if hasattr(rows, "check"):
                rows.check()
        return source
    except (OSError, EOFError) as error:
        name, reason = getattr(error, "filename", None), getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"data.source.kind={spec.kind!r}: {name or 'a file'} cannot be read or written ({reason}); check that "
            "it is whole, and that you may"
        ) from error


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
        case TextSource(documents=MixtureDocuments()):
            from scaling.data.text import mixture

            return mixture.load_mixture(spec, evaluation_size)
        case TextSource():
            from scaling.data.text import source

            return source.load_text(spec, evaluation_size)
        case TfdsSource():
            from scaling.data.sources import tfds

            return tfds.load_tfds(spec, evaluation_size)
        case HuggingFaceSource():
            from scaling.data.sources import hugging_face

            return hugging_face.load_hugging_face(spec, evaluation_size)
        case TeacherSource():
            from scaling.data.sources import synthetic

            return synthetic.load_teacher(spec, evaluation_size)
        case MarkovSource():
            from scaling.data.sources import synthetic

            return synthetic.load_markov(spec, evaluation_size)
        case _:
            assert_never(spec)


def load_sets(data: DataSpec) -> dict[str, Source]:
    """Returns the further evaluation sets of a cell by name; their pools are left out where they take memory.

    Raises:
      InputError: a set cannot be read, has fewer examples, or is of another task than the cell's source.
    """
    sets: dict[str, Source] = {}
    for spec in data.evaluation_sets:
        sets[spec.name] = _load_set(spec.source.model_dump_json(), spec.source, spec.size, spec.name)
        _check_set(f"data.evaluation_sets.source ({spec.name})", load_source(data), sets[spec.name])
    return sets


@functools.lru_cache(maxsize=16)
def _load_set(key: str, spec: AnySource, size: int, name: str) -> Source:
    del key
    try:
        source = _read_whole(spec, size)
    except InputError as error:
        raise InputError(f"data.evaluation_sets {name!r}: {error}") from None
    if source.evaluation_size < size:
        raise InputError(
            f"data.evaluation_sets.size={size} ({name}) exceeds the {source.evaluation_size} evaluation examples of "
            f"{source.name}; choose at most {source.evaluation_size}"
        )
    if not isinstance(source.inputs, np.ndarray):
        return source
    labels = None if source.labels is None else source.labels[:0].copy()
    return dataclasses.replace(source, inputs=source.inputs[:0].copy(), labels=labels, groups=None)


def _check_set(where: str, source: Source, found: Source) -> None:
    """Checks that a set is of the task that a model learns from a source, with numbers in the same units."""
    own, other = (
        dataclasses.asdict(task_shape(each))
        | {"scaling": each.scaling, "unit": each.unit, "tokenizer": each.facts.get("tokenizer_sha256")}
        for each in (source, found)
    )
    for name, value in other.items():
        if value != own[name]:
            raise InputError(
                f"{where}: {found.name} has {name}={value!r}, but {source.name} of data.source has {own[name]!r}; give "
                "a source of the same task"
            )


def check_data(data: DataSpec, source: Source) -> None:
    """Checks that a subset of the asked size, order and treatment exists, and what it is evaluated by.

    Raises:
      InputError: m exceeds the pool, its examples cannot be ordered, changed or scaled as asked, or the task does not
        have a metric or fit an evaluation set.
    """
    if source.objective == "classify" and source.num_classes < 2:
        raise InputError(
            f"data.source.kind={data.source.kind!r}: all labels of {source.name} are one class, which leaves nothing "
            "to tell apart; name other labels, or regress on them (task='regress')"
        )
    is_text = source.bytes_per_token is not None
    check_metrics(data.metrics, task_shape(source), is_text=is_text, where=source.name)
    for name, each in {"": source, **load_sets(data)}.items():
        if "auc" in data.metrics and each.eval_labels is not None and len(np.unique(each.eval_labels)) < 2:
            raise InputError(
                f"data.metrics='auc' needs both classes, but the evaluation set {name or 'of ' + each.name} holds one; "
                "choose a larger one, or leave the metric out"
            )
    if data.size > source.size:
        raise InputError(
            f"data.size={data.size} exceeds the {source.size} training examples of {source.name}"
            f"{f', of which {source.scarce} runs out first' if source.scarce else ''}; "
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
    if data.augmentation is not None and source.image_shape is not None:
        height, width, _ = source.image_shape
        if data.augmentation.crop >= min(height, width):
            raise InputError(
                f"data.augmentation.crop={data.augmentation.crop} moves the {height} by {width} images of "
                f"{source.name} out of sight; choose at most {min(height, width) - 1}"
            )
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
