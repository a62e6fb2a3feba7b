"""Where datasets of TensorFlow Datasets are prepared, how they come there, and what a prepared one says of itself."""

import contextlib
import functools
import io
import json
import os
import re
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from scaling.specs.base import InputError, suggest
from scaling.specs.data import TfdsDocuments, TfdsSource

NAME = re.compile(r"(?P<base>\w+)(/(?P<config>[^/:]+))?(:(?P<version>[\d*]+\.[\d*]+\.[\d*]+))?")


def open_dataset(spec: TfdsSource | TfdsDocuments, field: str) -> Any:
    """Returns the builder of a dataset that is prepared for random access, prepared here if the specification says so.

    It is found by the name of its folder and read by what the folder says: the code that made it is not needed.

    Args:
      spec: which one.
      field: where the specification stands, for messages.

    Raises:
      InputError: it is not prepared or cannot be, or not as array_record.
    """
    import tensorflow_datasets as tfds

    name = NAME.fullmatch(spec.name)
    if name is None:
        raise InputError(f"{field}.name={spec.name!r} is malformed; write name, name/config or name:1.0.0")
    # TFDS reads the variable when it is imported; here it counts when it is needed.
    root = epath.Path(spec.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    find = functools.partial(_find_prepared, root, **name.groupdict())
    try:
        folder = find()
        if folder is None:
            _check_known(spec, field, root, name["base"])
            if spec.download:
                _prepare(spec, field, root, find)
                folder = find()
    except (OSError, ImportError) as error:
        raise InputError(
            f"{field}.data_dir={os.fspath(root)!r} cannot be read: {first_line(error)}; check path and credentials "
            "(gs://… needs scaling[gcs] installed)"
        ) from None
    if folder is None:
        others = ", ".join(_list_folder(root / name["base"]))
        there = f" (there is {others})" if others else ""
        raise InputError(
            f"{field}.name={spec.name!r} is not prepared in {os.fspath(root)}{there}; "
            f"set {field}.download=true, or prepare it elsewhere and set TFDS_DATA_DIR or {field}.data_dir (gs://… too)"
        )
    builder = tfds.builder_from_directory(os.fspath(folder))
    formats = sorted(found.value for found in builder.info.available_file_formats())
    if "array_record" not in formats:
        raise InputError(
            f"{field}.name={spec.name!r} is prepared as {' and '.join(formats)} in {os.fspath(folder)}, without random "
            "access; prepare it again in another data_dir with download_and_prepare(file_format='array_record')"
        )
    return builder


def _find_prepared(root: epath.Path, base: str, config: str | None, version: str | None) -> epath.Path | None:
    """Returns the folder of the newest prepared version that matches, or None."""
    import tensorflow_datasets as tfds

    metadata = root / base / ".config" / "metadata.json"
    if config is None and metadata.exists():
        config = json.loads(metadata.read_text())["default_config_name"]
    parent = root / base / (config or "")
    found = [tfds.core.Version(name) for name in _list_folder(parent) if tfds.core.Version.is_valid(name)]
    matching = [known for known in found if version is None or known.match(version)]
    return parent / str(max(matching)) if matching else None


def _list_folder(folder: epath.Path) -> list[str]:
    """Returns the names in a folder, without hidden ones and half-prepared datasets; none where there is no folder."""
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "incomplete.")))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check_known(spec: TfdsSource | TfdsDocuments, field: str, root: epath.Path, base: str) -> None:
    """Raises InputError where neither TFDS nor the folder has a dataset of this name."""
    import tensorflow_datasets as tfds

    # Without TensorFlow, list_builders() says so on standard output and passes over the older datasets (c4, say); these
    # have a list of checksums.
    with contextlib.redirect_stdout(io.StringIO()):
        names = tfds.list_builders(with_community_datasets=False)
    checksums = Path(tfds.__file__).parent / "url_checksums"
    known = {*names, *(path.stem for path in checksums.glob("*.txt")), *_list_folder(root)}
    if base not in known:
        near = suggest(base, known)
        raise InputError(
            f"{field}.name={spec.name!r} is no dataset of TFDS, nor is it prepared in {os.fspath(root)}; "
            + (near if near.startswith("did you mean") else "see https://www.tensorflow.org/datasets/catalog")
        )


def _prepare(
    spec: TfdsSource | TfdsDocuments, field: str, root: epath.Path, find: Callable[[], epath.Path | None]
) -> None:
    """Downloads a dataset and prepares it as array_record."""
    import tensorflow_datasets as tfds

    builder = None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for what a command prints
            builder = tfds.builder(spec.name, data_dir=os.fspath(root))
            where = f"{spec.name} is not prepared in {os.fspath(root)}"
            print(f"{field}.download=true: {where}; downloading and preparing it there", file=sys.stderr)
            _check_network(builder, root)
            config = tfds.download.DownloadConfig(try_download_gcs=False)  # what Google keeps is not array_record
            builder.download_and_prepare(file_format="array_record", download_config=config)
    except Exception as error:
        if find() is not None:
            return  # another process was faster
        raise InputError(
            f"{field}.download=true cannot prepare {spec.name!r} in {os.fspath(root)}: {_explain(error, builder, root)}"
            f", or prepare it elsewhere and set TFDS_DATA_DIR or {field}.data_dir"
        ) from error


def _check_network(builder: Any, root: epath.Path) -> None:
    """Refuses to begin where what is downloaded from has no address, which TFDS would try for minutes.

    Where a proxy looks addresses up, or files have been downloaded already, nothing is known beforehand.

    Raises:
      ConnectionError: names the host.
    """
    known = getattr(builder, "url_infos", None)
    urls = known if isinstance(known, Mapping) else {}
    hosts = sorted({host for url in urls if (host := urllib.parse.urlsplit(url).hostname)})
    if not hosts or urllib.request.getproxies() or any((root / "downloads").glob("*.INFO")):
        return
    try:
        socket.getaddrinfo(hosts[0], None)
    except OSError as error:
        raise ConnectionError(f"no address is known for {hosts[0]} ({error.strerror or error})") from None


def _explain(error: Exception, builder: Any, root: epath.Path) -> str:
    """Returns what went wrong when a dataset was prepared, and what to do."""
    instructions = " ".join((getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None) or "").split())
    # The code of the older datasets is not found where it cannot be imported, for want of TensorFlow.
    if isinstance(error, ImportError) or type(error).__name__ == "DatasetNotFoundError":
        package = next(iter(re.findall(r"No module named '(\w+)", str(error))), "tensorflow")
        return f"to prepare it, not to read it, TFDS needs {package}; install that (pip install {package})"
    if instructions and isinstance(error, AssertionError | FileNotFoundError):
        first = re.split(r"(?<=\.)\s", instructions)[0].rstrip(".")
        return f"it is downloaded by hand into {os.fspath(root / 'downloads' / 'manual')} ({first}); do that"
    return f"{type(error).__name__}: {first_line(error)}; check network and disk"


def first_line(value: object) -> str:
    """Returns the first line of a text, without what ends it."""
    return next(iter(str(value).strip().splitlines()), "").strip().rstrip(".;:")


# --- what a prepared dataset says -----------------------------------------------------------------------------------


def find_feature(builder: Any, field: str, name: str) -> Any:
    """Returns a feature.

    Raises:
      InputError: there is none of this name.
    """
    features = builder.info.features
    if name not in features:
        raise InputError(f"{field}={name!r} is no feature of {builder.info.full_name}; {suggest(name, features)}")
    return features[name]


def describe_tensor(feature: Any) -> tuple[tuple[int | None, ...], str]:
    """Returns shape and kind of a feature that is one tensor: `u`, `i`, `f`, `b`, `O` for text; `?` for other ones."""
    info = feature.get_tensor_info()
    if not hasattr(info, "np_dtype"):
        return (), "?"
    kind = np.dtype(info.np_dtype).kind
    return tuple(info.shape), "O" if kind in "OSU" else kind


def count_examples(builder: Any, field: str, split: str) -> int:
    """Returns the number of examples of a split, its slices included.

    Raises:
      InputError: there is no such split, its slice is malformed or it is empty.
    """
    known = list(builder.info.splits)
    try:
        size = int(builder.info.splits[split].num_examples)
    except (ValueError, KeyError, AssertionError) as error:
        for part in split.split("+"):
            base = part.partition("[")[0].strip()
            if base not in known:
                raise InputError(
                    f"{field}={split!r}: {builder.info.full_name} has no split {base!r}; {suggest(base, known)}"
                ) from None
        raise InputError(
            f"{field}={split!r} cannot be read: {str(error).strip().splitlines()[-1].rstrip('.')}; write {known[0]}, "
            f"{known[0]}[:90%] or {known[0]}[:1000], or several with + between"
        ) from None
    if size == 0:
        raise InputError(f"{field}={split!r} holds no example of {builder.info.full_name}; choose a larger slice")
    return size


def check_disjoint(builder: Any, split: str, eval_split: str) -> None:
    """Checks that two splits or slices share no example.

    Raises:
      InputError: they do.
    """
    for one in builder.info.splits[split].file_instructions:
        for other in builder.info.splits[eval_split].file_instructions:
            start = max(one.skip, other.skip)
            if one.filename == other.filename and start < min(one.skip + one.take, other.skip + other.take):
                raise InputError(
                    f"data.source.split={split!r} and evaluation_split={eval_split!r} share examples; choose slices "
                    "that do not meet, or evaluation_split=null"
                )
