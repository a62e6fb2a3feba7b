"""Small datasets in the format of TensorFlow Datasets, prepared from what is at hand."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def make_builder(
    dataset: str, features: Any, splits: Mapping[str, Iterable[Mapping[str, Any]]], **how: Any
) -> type[Any]:
    """Returns the class of a builder that yields given examples; with `**how`, other attributes of the class."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=not how.pop("is_registered", False)):
        name = dataset
        VERSION = tfds.core.Version(how.pop("version", "1.0.0"))

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self) -> None:
            raise NotImplementedError

    for name, value in how.items():
        setattr(Builder, name, value)
    return Builder


def prepare(
    folder: Path,
    dataset: str,
    features: Any,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    file_format: str = "array_record",
    **how: Any,
) -> None:
    """Writes a dataset into a folder, as `download_and_prepare` does."""
    builder = make_builder(dataset, features, splits, **how)(data_dir=folder)
    builder.download_and_prepare(file_format=file_format)


def encode(image: np.ndarray, format: str = "PNG") -> bytes:  # noqa: A002  (Pillow's name)
    """Returns an image file, of [H, W] or [H, W, 3] uint8."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format)
    return file.getvalue()


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns scikit-learn's digits, [1797, 8, 8] uint8 in 0 … 255, and their classes."""
    import sklearn.datasets

    data = sklearn.datasets.load_digits()
    return (data.images * 15).astype(np.uint8), data.target


def prepare_digits(folder: Path, **how: Any) -> None:
    """Writes `digits` with 1,500 and 297 examples: `image`, `label`, `name`, and a second image that no model reads."""
    import tensorflow_datasets as tfds

    images, labels = digits()
    examples = [
        {"image": encode(image), "label": int(label), "name": f"digit {i}", "damaged": b"no image"}
        for i, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "damaged": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
        "name": tfds.features.Text(),
    }
    prepare(folder, "digits", features, {"train": examples[:1500], "test": examples[1500:]}, **how)


def prepare_numbers(folder: Path, num_examples: int = 40, **how: Any) -> None:
    """Writes `numbers`: vectors, grids, classes, numbers and all that a source must refuse."""
    import tensorflow_datasets as tfds

    def example(i: int) -> dict[str, Any]:
        return {
            "vector": np.array([i, i * i, 0.5], np.float32),
            "codes": np.array([i, 2 * i], np.int64),
            "grid": np.full((2, 3), i, np.uint8),
            "volume": np.full((2, 3, 1), i / 4, np.float32),
            "gap": np.array([np.nan if i == 7 else i], np.float32),
            "ragged": np.arange(i % 3 + 1),
            "clip": np.zeros((2, 2, 2, 1), np.uint8),
            "nested": {"one": i},
            "text": f"text {i}",
            "class": i % 3,
            "below": -1 if i == 5 else 0,
            "missing": -1 if i == 5 else i % 4,
            "always": 0,
            "grey": encode(np.full((2, 2), i, np.uint8)),
            "target": i / 10,
            "gap_target": float("inf") if i == 5 else 0.0,
            "deep": encode(np.zeros((2, 2), np.uint16)),
        }

    def tensor(shape: tuple[int | None, ...], dtype: Any) -> Any:
        return tfds.features.Tensor(shape=shape, dtype=dtype)

    features = {
        "vector": tensor((3,), np.float32),
        "codes": tensor((2,), np.int64),
        "grid": tensor((2, 3), np.uint8),
        "volume": tensor((2, 3, 1), np.float32),
        "gap": tensor((1,), np.float32),
        "ragged": tensor((None,), np.int64),
        "clip": tensor((2, 2, 2, 1), np.uint8),
        "nested": {"one": np.int64},
        "text": tfds.features.Text(),
        "class": np.int64,
        "below": np.int64,
        "missing": tfds.features.ClassLabel(num_classes=4),
        "always": np.int64,
        "grey": tfds.features.Image(shape=(2, 2, 3)),
        "target": np.float32,
        "gap_target": np.float32,
        "deep": tfds.features.Image(shape=(2, 2, 1), dtype=np.uint16),
    }
    prepare(folder, "numbers", features, {"train": [example(i) for i in range(num_examples)]}, **how)


def prepare_pictures(folder: Path, dataset: str = "pictures", features: Any = None, **how: Any) -> None:
    """Writes images of different sizes, classed by their colour; the third is grey and the fourth CMYK."""
    import tensorflow_datasets as tfds

    def picture(i: int) -> bytes:
        sides = (20 + 3 * i, 30 - i)
        if i == 2:
            return encode(np.full(sides, 200, np.uint8), "JPEG")
        if i == 3:
            file = io.BytesIO()
            Image.new("CMYK", sides, (0, 255, 255, 0)).save(file, "JPEG")
            return file.getvalue()
        colour = [(255, 0, 0), (0, 255, 0)][i % 2]
        return encode(np.broadcast_to(np.array(colour, np.uint8), (*sides, 3)).copy(), "JPEG")

    features = features or {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    examples = [{"image": picture(i), "label": i % 2} for i in range(10)]
    # Those of a real dataset may need more.
    examples = [{**{name: "" for name in features if name not in ("image", "label")}, **item} for item in examples]
    prepare(folder, dataset, features, {"train": examples[:6], "validation": examples[6:]}, **how)


def prepare_texts(folder: Path, dataset: str, features: Any, texts: Iterable[str], **how: Any) -> None:
    """Writes documents; features other than `text` are empty."""
    examples = [{**dict.fromkeys(features, ""), "text": text} for text in texts]
    prepare(folder, dataset, features, {"train": examples}, **how)
