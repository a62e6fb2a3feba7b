"""The idx files of MNIST and Fashion-MNIST."""

import math
import struct
from pathlib import Path

import numpy as np

from scaling.data.source import Source, draw_evaluation
from scaling.data.sources.archives import read_bytes
from scaling.specs.base import InputError
from scaling.specs.data import IdxSource

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def load_idx(spec: IdxSource, evaluation_size: int) -> Source:
    """Returns the images of four idx files; those that are not gzipped are memory-mapped.

    The evaluation set is drawn from the files of test images, in an order that is the same for every size.

    Raises:
      InputError: a file is missing, is damaged, or does not belong to the others.
    """
    folder = Path(spec.folder)
    if not folder.is_dir():
        fault = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"data.source.folder={spec.folder!r} {fault}; give the folder of the idx files of MNIST or Fashion-MNIST "
            f"as they are downloaded: {', '.join(IDX_FILES)}, gzipped or not"
        )
    images, labels, eval_images, eval_labels = (_read_idx(folder, name) for name in IDX_FILES)
    for kind, x, y in (("train", images, labels), ("t10k", eval_images, eval_labels)):
        if len(x) != len(y):
            raise InputError(f"{folder}: {len(x)} {kind} images but {len(y)} labels; the files do not belong together")
        if x.ndim != 3 or y.ndim != 1 or y.dtype.kind not in "iu":
            raise InputError(
                f"{folder}: {kind} images of shape {x.shape} and {y.dtype} labels of shape {y.shape} are not [n, H, W] "
                "images with [n] classes; give the original files"
            )
    if images.shape[1:] != eval_images.shape[1:]:
        raise InputError(
            f"{folder}: train images of {images.shape[1:]} but t10k images of {eval_images.shape[1:]} pixels; the "
            "files do not belong together"
        )
    if labels.min() < 0 or eval_labels.min() < 0 or eval_labels.max() > labels.max():
        raise InputError(
            f"{folder}: train labels are {labels.min()} to {labels.max()} but t10k labels {eval_labels.min()} to "
            f"{eval_labels.max()}, and classes are integers from 0 that train images have; the files do not belong "
            "together"
        )
    chosen = draw_evaluation(len(eval_labels), evaluation_size)
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


def _read_idx(folder: Path, name: str) -> np.ndarray:
    """Returns the array of an idx file (http://yann.lecun.com/exdb/mnist): magic, big-endian sizes, values."""
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if not found:
        raise InputError(
            f"data.source.folder={str(folder)!r} lacks {name} or {name}.gz; give the folder of the idx files, with all "
            f"four: {', '.join(IDX_FILES)}"
        )
    path = found[0]
    if path.suffix == ".gz":
        content = head = read_bytes(path, "data.source.folder")
        num_bytes = len(content)
    else:
        with path.open("rb") as file:
            head = file.read(4 + 4 * 255)  # no more sizes than a byte can count
        num_bytes = path.stat().st_size
    rank = head[3] if len(head) >= 4 else 0
    offset = 4 + 4 * rank
    if rank == 0 or head[:2] != b"\0\0" or head[2] not in IDX_TYPES or len(head) < offset:
        empty = " (it holds 0 bytes)" if not num_bytes else ""
        raise InputError(f"{path} is no idx file{empty}; give the original file")
    shape = struct.unpack(f">{rank}I", head[4:offset])
    dtype = np.dtype(IDX_TYPES[head[2]])
    if num_bytes - offset != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{path} holds {(num_bytes - offset) / dtype.itemsize:g} values, but its head says {shape}; "
            "give the whole file"
        )
    if not math.prod(shape):
        raise InputError(f"{path} holds no values, its head says {shape}; give the original file")
    if path.suffix == ".gz":
        return np.frombuffer(content, dtype, offset=offset).reshape(shape)
    return np.asarray(np.memmap(path, dtype, "r", offset, shape))
