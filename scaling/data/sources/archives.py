"""Files as they are downloaded: gzipped ones are read, archives unpacked once into the cache folder."""

import errno
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from scaling.specs.base import InputError
from scaling.store.cache import cache_folder, lock_folder

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

# What writing the members says where they contradict each other, or have names that no file can have.
CONTRADICTIONS = (errno.EEXIST, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

MOST_SHOWN = 60  # characters of a name


def read_bytes(path: Path, field: str) -> bytes:
    """Returns the content of a file, uncompressed where its name ends in .gz.

    Raises:
      InputError: there is no such file, or it is no whole gzip file; `field` says who named it.
    """
    if path.is_dir():
        raise InputError(f"{field}={str(path)!r} is a folder; give the path of a file")
    if not path.is_file():
        raise InputError(f"{field}={str(path)!r} does not exist; give the path of a file")
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{field}={str(path)!r} is no whole gzip file ({error}); give the original file") from None


def is_archive(path: Path) -> bool:
    """Returns whether a path is a file that `extract` unpacks: .tar, .tar.gz, .tgz or .zip."""
    return path.name.lower().endswith((*TAR_SUFFIXES, ".zip")) and not path.is_dir()


def extract(path: Path, field: str = "data.source.path") -> Path:
    """Returns the folder in the cache that holds an archive's files; the first call unpacks them.

    Its name is made of the archive's name, size and time of change. It appears at once when all files are there: what a
    run that was killed has left is removed by the next one. Of two runs at the same time, one waits for the other.

    Args:
      path: a .tar, .tar.gz, .tgz or .zip.
      field: which named it, for error messages.

    Raises:
      InputError: it is missing, damaged or does not fit on the disk, or holds what would be written outside its folder
        or is neither file nor folder: absolute paths, `..`, links upwards, devices.
    """
    if not path.is_file():
        raise InputError(f"{field}={str(path)!r} does not exist; give the path of a folder or an archive")
    status = path.stat()
    if not status.st_size:
        raise InputError(f"{field}={str(path)!r} holds 0 bytes and is no archive; download it again")
    with path.open("rb"):  # what cannot be read is no fault of the cache folder
        pass
    identity = hashlib.sha256(f"{path.name}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()[:16]
    folder = cache_folder() / "archives" / f"{path.name}-{identity}"
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f"{folder.name}.partial")
    where = f"{field}={str(path)!r}"
    try:
        with lock_folder(folder):
            if not folder.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                _unpack(path, unfinished, where)
                unfinished.rename(folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        NotImplementedError,  # a compression that zipfile lacks
        RuntimeError,  # a zip with a password
    ) as error:
        raise InputError(f"{where} is no whole archive ({_one_line(error)}); download it again") from None
    except OSError as error:
        if error.errno in NO_SPACE:
            raise InputError(
                f"{where} does not fit into {folder.parent}: no space is left; make room there, or set "
                "XDG_CACHE_HOME to a larger disk"
            ) from None
        raise InputError(
            f"{where} cannot be unpacked into {folder.parent} ({_one_line(error)}); set XDG_CACHE_HOME to a folder "
            "that can be written"
        ) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _unpack(path: Path, folder: Path, where: str) -> None:
    try:
        if path.name.lower().endswith(TAR_SUFFIXES):
            with tarfile.open(path, "r:*") as tar:
                _unpack_tar(tar, folder, where)
        else:
            with zipfile.ZipFile(path) as archive:
                _unpack_zip(archive, folder, where)
    except OSError as error:
        if error.errno not in CONTRADICTIONS:
            raise
        name = os.path.relpath(error.filename or folder, folder)
        raise tarfile.ReadError(f"{error.strerror}: {name[:MOST_SHOWN]!r}") from None


def _unpack_tar(tar: tarfile.TarFile, folder: Path, where: str) -> None:
    """Unpacks contents and links alone, alike on every Python: the standard library's own filter came with 3.11.4.

    Owners, modes and times are not taken over: what is unpacked belongs to who unpacks it, and nothing is set-uid.
    """
    for member in tar:
        _check_name(member.name, "", where)
        is_link = member.issym() or member.islnk()
        if is_link:
            _check_name(member.linkname, f", the target of the link {member.name!r},", where)
        elif not (member.isfile() or member.isdir()):
            raise InputError(f"{where} holds {member.name!r}, which is neither file nor folder; do not unpack it")
        place = folder / member.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            place.mkdir(exist_ok=True)
            continue
        place.unlink(missing_ok=True)  # a name may come twice, and is never written through a link
        if member.issym():
            place.symlink_to(member.linkname)
        elif is_link:
            place.hardlink_to(folder / member.linkname)
        else:
            with cast("IO[bytes]", tar.extractfile(member)) as content, place.open("xb") as file:
                shutil.copyfileobj(content, file)


def _unpack_zip(archive: zipfile.ZipFile, folder: Path, where: str) -> None:
    for info in archive.infolist():
        _check_name(info.filename, "", where)
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(
                f"{where} holds {info.filename!r}, a link, which is not unpacked from a .zip; unpack it yourself "
                "and give the folder"
            )
    archive.extractall(folder)  # noqa: S202 - each member was checked


def _check_name(name: str, role: str, where: str) -> None:
    """Refuses the name of a member, or of a link's target, that could lead out of the folder, or that no file can have.

    Any `..` does, even where it seems to stay inside: after a link downwards, the parent is another one than it reads.
    """
    if "\0" in name:
        raise tarfile.ReadError(f"no file can be called {name[:MOST_SHOWN]!r}")
    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or name[1:2] == ":":
        raise InputError(
            f"{where} holds {name!r}{role} which may lead out of its folder; unpack it yourself if you trust it, and "
            "give the folder"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
