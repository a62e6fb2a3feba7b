"""The binary batches of CIFAR-10 and CIFAR-100."""

import math
from pathlib import Path

import numpy as np

from scaling.data.source import Source, draw_evaluation
from scaling.data.sources.archives import extract, is_archive
from scaling.specs.base import InputError
from scaling.specs.data import CifarSource

CIFAR_IMAGE = (32, 32, 3)  # H, W, C
CIFAR_FOLDERS = ("cifar-10-batches-bin", "cifar-100-binary")
CIFAR_10 = (tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",))
CIFAR_100 = (("train.bin",), ("test.bin",))


def load_cifar(spec: CifarSource, evaluation_size: int) -> Source:
    """Returns the images of CIFAR-10 or CIFAR-100 in their binary version (https://www.cs.toronto.edu/~kriz/cifar.html).

    A record is a label (CIFAR-10) or a coarse and a fine one (CIFAR-100), and then all red, all green and all blue
    pixels, row by row; here the channels of a pixel stand together. The evaluation set is drawn from the test images.

    Raises:
      InputError: a file is missing or damaged, or the labels asked for do not exist.
    """
    path = Path(spec.path)
    folder, is_100 = _find_cifar(extract(path) if is_archive(path) else path, path)
    if not is_100 and spec.labels == "coarse":
        raise InputError(
            "data.source.labels='coarse' are superclasses, which CIFAR-10 has none of; choose data.source.labels='fine'"
        )
    train, test = (
        [_read_batch(folder / name, is_100, spec.labels) for name in names]
        for names in (CIFAR_100 if is_100 else CIFAR_10)
    )
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    eval_images, eval_labels = test[0]
    chosen = draw_evaluation(len(eval_labels), evaluation_size)
    return Source(
        name=f"cifar-100{'-coarse' if spec.labels == 'coarse' else ''}" if is_100 else "cifar-10",
        inputs=images,
        labels=labels,
        eval_inputs=eval_images[chosen],
        eval_labels=eval_labels[chosen],
        num_classes=20 if spec.labels == "coarse" else 100 if is_100 else 10,
        unit=1 / 255,
        image_shape=CIFAR_IMAGE,
    )


def _find_cifar(folder: Path, given: Path) -> tuple[Path, bool]:
    """Returns the folder that holds the batches, and whether they are those of CIFAR-100."""
    if not folder.is_dir():
        raise InputError(
            f"data.source.path={str(given)!r} does not exist; give the folder or the .tar.gz of the binary version of "
            "CIFAR-10 or CIFAR-100, from https://www.cs.toronto.edu/~kriz/cifar.html"
        )
    found = [
        (place, batches is CIFAR_100)
        for place in (folder, *(folder / name for name in CIFAR_FOLDERS))
        for batches in (CIFAR_10, CIFAR_100)
        if any((place / name).is_file() for names in batches for name in names)
    ]
    if not found:
        raise InputError(
            f"data.source.path={str(given)!r} holds neither data_batch_1.bin (CIFAR-10) nor train.bin (CIFAR-100); "
            "give the folder or the .tar.gz of the binary version"
        )
    if len(found) > 1:
        raise InputError(
            f"data.source.path={str(given)!r} holds both CIFAR-10 and CIFAR-100; give the folder of one of them"
        )
    return found[0]


def _read_batch(path: Path, is_100: bool, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [n, 3072] uint8, pixel by pixel, and labels [n] int32."""
    if not path.is_file():
        raise InputError(f"data.source.path={str(path.parent)!r} lacks {path.name}; unpack the whole archive again")
    classes = (20, 100) if is_100 else (10,)
    height, width, channels = CIFAR_IMAGE
    record = len(classes) + math.prod(CIFAR_IMAGE)
    content = np.fromfile(path, np.uint8)
    if len(content) % record or not len(content):
        raise InputError(
            f"data.source.path: {path} holds {len(content)} bytes, which is no whole number of records of {record} "
            "bytes; unpack the whole archive again"
        )
    records = content.reshape(-1, record)
    for column, (kind, count) in enumerate(zip(("coarse", "fine")[-len(classes) :], classes, strict=True)):
        if records[:, column].max() >= count:
            row = int(np.argmax(records[:, column] >= count))
            raise InputError(
                f"data.source.path: {path} holds the {kind} label {records[row, column]} in record {row}, which is "
                f"above {count - 1}; give the original files"
            )
    images = records[:, len(classes) :].reshape(-1, channels, height, width).transpose(0, 2, 3, 1)  # [n, H, W, C]
    column = 0 if labels == "coarse" else len(classes) - 1
    return images.reshape(len(records), -1), records[:, column].astype(np.int32)
