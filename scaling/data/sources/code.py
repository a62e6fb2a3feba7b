"""Sources that are the user's own code: a function that returns arrays, or a whole source."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.data.source import Source
from scaling.data.sources.arrays import ARRAY_NAMES, make_source
from scaling.specs.base import InputError, suggest
from scaling.specs.code import resolve_function
from scaling.specs.data import CodeSource

OTHER_NAMES = ("task", "vocab_size")


def load_code(spec: CodeSource, evaluation_size: int) -> Source:
    """Returns what the user's function loads, checked as arrays of files are.

    Raises:
      InputError: there is no such function, it raises, or what it returns is no source and no arrays of one.
    """
    called = f"data.source.code={spec.code!r}"
    load = resolve_function(spec.code)
    try:
        loaded = load(evaluation_size, **spec.settings)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{called} raised {type(error).__name__}: {' '.join(str(error).split())}; repair it, or "
            "data.source.settings"
        ) from error
    if isinstance(loaded, Source):
        _check_source(loaded, called)
        return loaded
    if isinstance(loaded, tuple) and len(loaded) == 2:
        loaded = {"inputs": loaded[0], "labels": loaded[1]}
    if not isinstance(loaded, Mapping):
        raise InputError(
            f"{called} returned {type(loaded).__name__}; return (inputs, labels), a dict of arrays, or a Source"
        )
    return _from_arrays(spec, loaded, evaluation_size, called)


def _from_arrays(spec: CodeSource, loaded: Mapping[str, Any], evaluation_size: int, called: str) -> Source:
    known = (*ARRAY_NAMES, *OTHER_NAMES)
    for name in loaded:
        if name not in known:
            raise InputError(f"{called} returned an entry {name!r}, which means nothing; {suggest(str(name), known)}")
    given = {name: value for name, value in loaded.items() if value is not None}
    for name in ("inputs", "labels"):
        if name not in given:
            raise InputError(f"{called} returned no {name!r}; return inputs and labels")
    if ("evaluation_inputs" in given) != ("evaluation_labels" in given):
        raise InputError(f"{called} returned one of evaluation_inputs and evaluation_labels; return both, or neither")
    task, vocab_size = given.get("task", "classify"), given.get("vocab_size")
    if task not in ("classify", "regress"):
        raise InputError(f"{called} returned task={task!r}; choose 'classify' or 'regress'")
    if vocab_size is not None and (isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size < 1):
        raise InputError(f"{called} returned vocab_size={vocab_size!r}; return a positive integer, or leave it out")
    try:
        arrays = {name: np.asarray(given[name]) for name in ARRAY_NAMES if name in given}
    except ValueError as error:
        raise InputError(f"{called}: rows are not equally long ({error}); pad or cut them") from None
    calls = {name: f"{called}: {name}" for name in arrays}
    return make_source(spec.code, arrays, task, vocab_size, calls, evaluation_size, mapped=False)


def _check_source(source: Source, called: str) -> None:
    """Checks that labels are as many as examples, and that nobody's would ask for a class that is not there."""
    sides = (("", source.inputs, source.labels), ("eval_", source.eval_inputs, source.eval_labels))
    for side, inputs, labels in sides:
        if not len(inputs):
            raise InputError(f"{called} returned a Source without {side}inputs; give it some")
        if (labels is None) != (source.labels is None) or (labels is not None and len(labels) != len(inputs)):
            told = "no" if labels is None else str(len(labels))
            raise InputError(
                f"{called} returned a Source with {len(inputs)} {side}inputs and {told} {side}labels; give one for "
                "each, or none to predict tokens"
            )
        if (
            labels is not None
            and source.objective == "classify"
            and not 0 <= labels.min() <= labels.max() < (source.num_classes)
        ):
            raise InputError(
                f"{called} returned a Source whose {side}labels are {labels.min()} to {labels.max()}; classes must be "
                f"from 0 to num_classes - 1 = {source.num_classes - 1}"
            )
    if source.inputs.shape[1:] != source.eval_inputs.shape[1:]:
        raise InputError(
            f"{called} returned a Source whose inputs are {list(source.inputs.shape)} and eval_inputs "
            f"{list(source.eval_inputs.shape)}; examples of both must be alike"
        )
