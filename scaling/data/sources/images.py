"""Folders of images as sources: decoded at once where they are small, and when they are asked for where not."""

import hashlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scaling.data.source import Rows, Source, draw_evaluation, hash_examples, hold_out
from scaling.data.sources.archives import extract, is_archive
from scaling.specs.base import InputError
from scaling.specs.data import ImageFolderSource

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Images that take no more bytes than this when decoded are kept in memory.
IN_MEMORY_BYTES = 256 << 20

# Modes of more than eight bits, which Pillow would clip and not scale.
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)


def fit_square(image: Image.Image | np.ndarray, side: int, channels: int) -> np.ndarray:
    """Returns the middle square of an image, [side, side, channels] uint8.

    The image is resized, with bilinear filtering, so that its shorter side has `side` pixels, and cropped.

    Args:
      image: of Pillow, or an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] (with opacity, which is left out), uint8.
      side: pixels of the square.
      channels: 1 for grey, 3 for colour.

    Raises:
      ValueError: its values are not of eight bits.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise ValueError(f"pixels are {image.dtype} and not uint8")
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image)
    if image.mode in DEEP_MODES:
        raise ValueError(f"pixels have more than eight bits (mode {image.mode}); convert them to eight")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # what Pillow asks for before opacity is left out
    image = image.convert("L" if channels == 1 else "RGB")
    width, height = image.size
    shorter = min(width, height)
    width, height = (max(side, round(length * side / shorter)) for length in (width, height))
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    square = np.asarray(resized.crop((left, top, left + side, top + side)), np.uint8)
    return square.reshape(side, side, channels)


class ImageFiles:
    """Images by index, each decoded, by the thread that asks, when it is asked for.

    Attributes:
      folder: that the paths begin at.
      paths: the paths of the files, relative to it.
      side, channels: of the squares that they are made to.
    """

    def __init__(self, folder: Path, paths: Sequence[str], side: int, channels: int):
        self.folder = folder
        self.paths = paths
        self.side = side
        self.channels = channels

    @property
    def shape(self) -> tuple[int, int]:
        """(n, side · side · channels)."""
        return len(self.paths), self.side * self.side * self.channels

    @property
    def dtype(self) -> np.dtype:
        """Of pixels."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Any, /) -> np.ndarray:
        """Returns images [k, side · side · channels], row by row, by a slice or an array [k] of indices.

        Raises:
          InputError: a file cannot be decoded.
        """
        chosen = range(len(self))[indices] if isinstance(indices, slice) else np.asarray(indices)
        images = np.empty((len(chosen), self.shape[1]), np.uint8)
        for place, index in enumerate(chosen):
            images[place] = self._decode(self.folder / self.paths[index])
        return images

    def hash_listing(self, labels: np.ndarray) -> str:
        """Returns the sha256 of paths, sizes in bytes and labels of the files, and of the shape they are made to.

        It takes no reading of the files: a change that keeps a file's size is not seen.
        """
        digest = hashlib.sha256(f"{self.shape} {self.side} {self.channels}\n".encode())
        for path, label in zip(self.paths, labels, strict=True):
            digest.update(f"{path}\n{(self.folder / path).stat().st_size} {label}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def check(self) -> None:
        """Checks that no file is empty, as downloads that broke off leave them, without reading any.

        Raises:
          InputError: one is.
        """
        for path in self.paths:
            if not (self.folder / path).stat().st_size:
                raise InputError(
                    f"data.source.folder: {self.folder / path} holds 0 bytes and is no image; replace or remove it"
                )

    def _decode(self, path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return fit_square(image, self.side, self.channels).reshape(-1)
        except DECODING_ERRORS as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"data.source.folder: {path} cannot be decoded ({reason}); replace or remove the file"
            ) from None


def load_image_folder(spec: ImageFolderSource, evaluation_size: int) -> Source:
    """Returns the images of a folder with one folder a class, whose names in alphabetical order are the classes.

    Every image file below a class folder counts, by its suffix; how many other files there are is among the facts.
    Pool or evaluation set that takes more than 256 MiB is decoded when it is asked for. Its hash then is of the files'
    paths and sizes, else of the pixels. A given evaluation set is drawn in an order that is the same for every size.

    Raises:
      InputError: a folder is missing or holds no classes, a class holds no images, or an image cannot be decoded.
    """
    name = Path(spec.folder).name
    folder, classes, paths, labels, passed_over = _list_images(spec.folder, "folder")
    if spec.evaluation_folder is None:
        eval_folder, eval_paths, eval_labels = folder, paths, labels
        pool, chosen = hold_out(name, len(paths), evaluation_size)
    else:
        eval_folder, eval_classes, eval_paths, eval_labels, _ = _list_images(
            spec.evaluation_folder, "evaluation_folder"
        )
        if eval_classes != classes:
            odd = sorted(set(classes) ^ set(eval_classes))
            raise InputError(
                f"data.source.evaluation_folder={spec.evaluation_folder!r} and data.source.folder do not have the same "
                f"class folders: only one of them has {', '.join(map(repr, odd[:3]))}; give folders of the same classes"
            )
        pool, chosen = np.arange(len(paths)), draw_evaluation(len(eval_paths), evaluation_size)
    files = ImageFiles(folder, [paths[i] for i in pool], spec.side, spec.channels)
    eval_files = ImageFiles(eval_folder, [eval_paths[i] for i in chosen], spec.side, spec.channels)
    labels, eval_labels = labels[pool], eval_labels[chosen]
    inputs, eval_inputs = _read_small(files), _read_small(eval_files)
    known_hashes = None
    if inputs is files or eval_inputs is eval_files:
        known_hashes = (_hash(inputs, labels), _hash(eval_inputs, eval_labels))
    return Source(
        name=name,
        inputs=inputs,
        labels=labels,
        eval_inputs=eval_inputs,
        eval_labels=eval_labels,
        num_classes=len(classes),
        unit=1 / 255,
        image_shape=(spec.side, spec.side, spec.channels),
        facts={"files_passed_over": passed_over} if passed_over else {},
        known_hashes=known_hashes,
    )


def _read_small(files: ImageFiles) -> Rows:
    """Returns the images decoded, where they fit into memory with ease, or else the files."""
    return files[:] if files.shape[0] * files.shape[1] <= IN_MEMORY_BYTES else files


def _hash(images: Rows, labels: np.ndarray) -> str:
    return images.hash_listing(labels) if isinstance(images, ImageFiles) else hash_examples(images, labels)


def _list_images(given: str, field: str) -> tuple[Path, list[str], list[str], np.ndarray, int]:
    """Returns folder, classes, paths of images relative to the folder, labels [n] int32, and the number of other files.

    Raises:
      InputError: the folder is missing or holds no two classes, or a class holds no images.
    """
    where = f"data.source.{field}={given!r}"
    folder = Path(given)
    if is_archive(folder):
        folder = extract(folder, f"data.source.{field}")
        tops = _visible(folder)
        if len(tops) == 1 and tops[0].is_dir():  # as archives are packed
            folder = tops[0]
    if not folder.is_dir():
        raise InputError(f"{where} does not exist; give a folder, or an archive, with one folder of images a class")
    classes = [entry.name for entry in _visible(folder) if entry.is_dir()]
    if len(classes) < 2:
        raise InputError(
            f"{where} holds {len(classes)} class folders{f' ({classes[0]!r})' if classes else ''}; give a folder with "
            "one folder of images a class, two or more"
        )
    paths: list[str] = []
    labels: list[int] = []
    passed_over = 0
    for number, name in enumerate(classes):
        walked = os.walk(folder / name, onerror=_fail)
        found = sorted(
            f"{inside}/{file}"
            for inside, files in ((Path(place).relative_to(folder).as_posix(), files) for place, _, files in walked)
            for file in files
            if not file.startswith(".")
        )
        images = [path for path in found if path.lower().endswith(SUFFIXES)]
        if not images:
            raise InputError(
                f"{where}: the class folder {name!r} holds no images ({', '.join(SUFFIXES)}); remove it, or add some"
            )
        paths += images
        labels += [number] * len(images)
        passed_over += len(found) - len(images)
    return folder, classes, paths, np.array(labels, np.int32), passed_over


def _fail(error: OSError) -> None:
    """Has a walk end where a folder cannot be read, and not leave its images out."""
    raise error


def _visible(folder: Path) -> list[Path]:
    """Returns what a folder holds by name, without what systems add: hidden entries, and `__MACOSX` in archives."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name != "__MACOSX")
