"""This checkout as one archive in a bucket, for machines that shall run the same code."""

import dataclasses
import gzip
import hashlib
import io
import stat
import subprocess
import tarfile
from pathlib import Path

from etils import epath

from launch.engines import EngineError
from scaling.specs.base import InputError

MOST_BYTES = 200_000_000


@dataclasses.dataclass(frozen=True)
class Archive:
    """A checkout's files, compressed; the same files are the same bytes.

    Attributes:
      data: the data of a .tar.gz file.
      num_files: in it.
    """

    data: bytes
    num_files: int

    @property
    def sha256(self) -> str:
        """Of the data."""
        return hashlib.sha256(self.data).hexdigest()

    def url(self, folder: str) -> str:
        """Returns where it is kept, under a gs:// folder."""
        return f"{folder.rstrip('/')}/code/{self.sha256[:16]}.tar.gz"

    def upload(self, folder: str) -> str:
        """Puts it where it is kept, unless it is there, and returns the URL.

        Raises:
          EngineError: nothing can be written there.
        """
        url = self.url(folder)
        path = epath.Path(url)
        try:
            if not path.exists():
                path.write_bytes(self.data)
        except Exception as error:  # noqa: BLE001  (each client has kinds of its own)
            said = " ".join(str(error).split())[:200]
            raise EngineError(
                f"the code cannot be put to {url} ({said}); give a bucket=gs://… that you may write"
            ) from None
        return url


def pack_checkout(folder: Path | None = None) -> Archive:
    """Returns what git knows of a checkout, with what it does not know yet but does not ignore either.

    Args:
      folder: in the checkout; None for this project's own.

    Raises:
      InputError: it is no checkout, or larger than anybody would want to send.
    """
    folder = folder or Path(__file__).resolve().parents[3]
    top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    names = _git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    paths = sorted({name for name in names if name and (top / name).is_file()})
    size = sum((top / name).stat().st_size for name in paths)
    if size > MOST_BYTES:
        largest = max(paths, key=lambda name: (top / name).stat().st_size)
        raise InputError(
            f"code: the files of {str(top)!r} that git does not ignore have {size / 1e6:,.0f} MB, more than "
            f"{MOST_BYTES / 1e6:,.0f}; have git ignore what machines do not need, for example {largest!r}"
        )
    out = io.BytesIO()
    # No times, owners and names of this machine: the archive's name follows from what is in the files.
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in paths:
            data = (top / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o755 if (top / name).stat().st_mode & stat.S_IXUSR else 0o644
            tar.addfile(entry, io.BytesIO(data))
    return Archive(out.getvalue(), len(paths))


def _git(folder: Path, *words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"code: git does not run ({error}); install it, or give image= with the code in it") from None
    if done.returncode:
        raise InputError(
            f"code: {str(folder)!r} is in no git checkout ({done.stderr.decode(errors='replace').strip()}); call "
            "scaling from a checkout"
        )
    return done.stdout
