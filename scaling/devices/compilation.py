"""Compiled programs on disk, so that the next process on a machine like this one does not compile them again."""

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxlib

from scaling.devices.options import configure
from scaling.devices.processes import visible_cores
from scaling.specs.base import canonical_json, fingerprint_text
from scaling.store.cache import cache_folder

# Also what compiles in a hundredth of a second is kept: it is read in a tenth of that.
MIN_COMPILE_SECONDS = 0.0

# What is kept at most, and for how long unused; looked after once a day. JAX's own bound would read and lock the whole
# folder whenever a program is added, and add none any more after a process was killed while it did so.
MAX_BYTES, MAX_DAYS = 2 << 30, 90
DAY_SECONDS = 86_400


def use_compilation_cache() -> Path | None:
    """Returns the folder in which programs are kept from now on; None where that is not ours to say, or impossible.

    `JAX_COMPILATION_CACHE_DIR` names the user's own folder. Where ours cannot be written, or could be by others,
    programs are compiled as without it: what is in it is run.

    JAX keeps programs apart by their code, flags and accelerator, but not by the processor that they were compiled for,
    nor by the number of its cores, which changes the last bits of results. So machines that differ in these have
    folders of their own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # JAX has read it
        return None
    shared = cache_folder() / "programs"
    folder = shared / fingerprint_text(canonical_json(machine_facts()))
    try:
        shared.parent.mkdir(parents=True, exist_ok=True)
        shared.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    if not (is_private(shared) and os.access(folder, os.W_OK)):
        return None
    remove_old_programs(shared)
    known = configure(
        jax_compilation_cache_dir=str(folder),
        jax_persistent_cache_min_compile_time_secs=MIN_COMPILE_SECONDS,
        jax_persistent_cache_min_entry_size_bytes=-1,
    )
    return folder if "jax_compilation_cache_dir" in known else None


def is_private(folder: Path) -> bool:
    """Returns whether nobody but this user can put anything into a folder."""
    if not hasattr(os, "getuid"):  # no POSIX
        return True
    facts = folder.stat()
    return facts.st_uid == os.getuid() and not facts.st_mode & 0o022


def remove_old_programs(folder: Path) -> None:
    """Removes, once a day, what has not been read for long, and the least recently read of what is too much.

    Other processes may be reading and writing: a program that is gone is compiled again.
    """
    looked = folder / "looked"
    now = time.time()
    with contextlib.suppress(OSError):
        if looked.exists() and now - looked.stat().st_mtime < DAY_SECONDS:
            return
        looked.touch()
        kept = 0
        files = [(max(facts.st_atime, facts.st_mtime), facts.st_size, path) for path, facts in _files(folder)]
        for used, size, path in sorted(files, reverse=True):
            kept += size
            if path != looked and (kept > MAX_BYTES or now - used > MAX_DAYS * DAY_SECONDS):
                path.unlink(missing_ok=True)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                yield path, path.stat()


def machine_facts() -> dict[str, str]:
    """Returns what a compiled program depends on and JAX does not look at."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(visible_cores()),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
    }


def _processor() -> str:
    """Returns the model and the instruction sets of this machine's processor, as far as the system tells them."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    lines = info.read_text().partition("\n\n")[0].splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    names = ("vendor_id", "cpu family", "model", "model name", "flags", "CPU implementer", "CPU part", "Features")
    return canonical_json({name.strip(): value.strip() for name, value in told.items() if name.strip() in names})
