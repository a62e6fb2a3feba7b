"""Sources that every installation has: windows of Python's own library, and scikit-learn's small data sets."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.source import SPLIT_SEED, Source, split_examples
from scaling.data.sources import stdlib
from scaling.specs.data import BreastCancerSource, DiabetesSource, DigitsSource, StdlibSource, WineSource

# scikit-learn's own files: lines to skip, then numbers, of which the last one in a line is the label.
TABLES = {"digits": ("digits.csv.gz", 0), "breast_cancer": ("breast_cancer.csv", 1), "wine": ("wine_data.csv", 1)}


def load_stdlib(spec: StdlibSource, evaluation_size: int) -> Source:
    """Returns labelled windows of the standard library's source; no file is in both pool and evaluation set."""
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


def load_digits(spec: DigitsSource, evaluation_size: int) -> Source:
    """Returns handwritten digits, 8 × 8 grey."""
    del spec
    images, labels = _bundled("digits")
    return split_examples("digits", images, labels, evaluation_size, unit=1 / 16, image_shape=(8, 8, 1))


def load_breast_cancer(spec: BreastCancerSource, evaluation_size: int) -> Source:
    """Returns tumours, benign (1) or malignant (0)."""
    del spec
    return split_examples("breast_cancer", *_bundled("breast_cancer"), evaluation_size, scaling="standardize")


def load_wine(spec: WineSource, evaluation_size: int) -> Source:
    """Returns wines of three growers."""
    del spec
    return split_examples("wine", *_bundled("wine"), evaluation_size, scaling="standardize")


def load_diabetes(spec: DiabetesSource, evaluation_size: int) -> Source:
    """Returns patients, and the progression of their disease as a number."""
    del spec
    return split_examples(
        "diabetes", *_bundled("diabetes"), evaluation_size, scaling="standardize", objective="regress"
    )


def _bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs, [n, F] float32, and labels, [n].

    The files are read without their library where they are known: importing it takes longer than training a small
    network.
    """
    path = _find_table(name)
    if path is not None:
        numbers = np.loadtxt(path, delimiter=",", skiprows=TABLES[name][1])
        return numbers[:, :-1].astype(np.float32), numbers[:, -1].astype(np.int64)
    import sklearn.datasets

    how: dict[str, Any] = {"scaled": False} if name == "diabetes" else {}
    inputs, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True, **how)
    return inputs.astype(np.float32), labels


def _find_table(name: str) -> Path | None:
    """Returns where scikit-learn's file of that data is; None where it is not as it is known here."""
    spec = importlib.util.find_spec("sklearn")  # which imports nothing
    if name not in TABLES or spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0], "datasets", "data", TABLES[name][0])
    return path if path.is_file() else None
