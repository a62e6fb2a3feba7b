"""Compiled programs on disk, so that the next process on a machine like this one does not compile them again."""

import os
import platform
from pathlib import Path

import jax
import jaxlib

from scaling.devices.options import configure
from scaling.devices.processes import visible_cores
from scaling.specs.base import canonical_json, fingerprint_text
from scaling.store.cache import cache_folder

# Below this a program compiles about as fast as it is read and checked.
MIN_COMPILE_SECONDS = 0.5


def use_compilation_cache() -> Path | None:
    """Returns the folder in which programs are kept from now on; None where that is not ours to say, or impossible.

    `JAX_COMPILATION_CACHE_DIR` names the user's own folder. Where ours cannot be written, programs are compiled as
    without it.

    JAX keeps programs apart by their code, flags and accelerator, but not by the processor that they were compiled for,
    nor by the number of its cores, which changes the last bits of results. So machines that differ in these have
    folders of their own.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:  # JAX has read it
        return None
    folder = cache_folder() / "xla" / fingerprint_text(canonical_json(machine_facts()))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    known = configure(
        jax_compilation_cache_dir=str(folder),
        jax_persistent_cache_min_compile_time_secs=MIN_COMPILE_SECONDS,
        jax_persistent_cache_min_entry_size_bytes=-1,
    )
    return folder if "jax_compilation_cache_dir" in known else None


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
