"""Files as they are downloaded: gzipped ones are read, archives unpacked once into the cache folder."""

import errno
import gzip
import hashlib
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from scaling.data.cache import cache_folder, lock_folder
from scaling.spec import InputError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def read_bytes(path: Path, field: str) -> bytes:
    """Returns the content of a file, uncompressed where its name ends in .gz.

    Raises:
      InputError: there is no such file, or it is no whole gzip file; `field` says who named it.
    """
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
    if path.name.lower().endswith(TAR_SUFFIXES):

        def check(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo | None:
            _check_name(member.name, "", where)
            if member.issym() or member.islnk():
                _check_name(member.linkname, f", the target of the link {member.name!r},", where)
            elif not (member.isfile() or member.isdir()):
                raise InputError(f"{where} holds {member.name!r}, which is neither file nor folder; do not unpack it")
            return tarfile.data_filter(member, destination)

        with tarfile.open(path, "r:*") as tar:
            tar.extractall(folder, filter=check)  # noqa: S202 - each member is checked
        return
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            _check_name(info.filename, "", where)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(
                    f"{where} holds {info.filename!r}, a link, which is not unpacked from a .zip; unpack it yourself "
                    "and give the folder"
                )
        archive.extractall(folder)  # noqa: S202 - each member was checked


def _check_name(name: str, role: str, where: str) -> None:
    """Refuses the name of a member, or of a link's target, that could lead out of the folder.

    Any `..` does, even where it seems to stay inside: after a link downwards, the parent is another one than it reads.
    """
    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or name[1:2] == ":":
        raise InputError(
            f"{where} holds {name!r}{role} which may lead out of its folder; unpack it yourself if you trust it, and "
            "give the folder"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
