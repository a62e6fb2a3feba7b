"""Large decoders in bfloat16 on an accelerator: tokens a second, model FLOPs utilisation, and memory.

Each size trains on noise with this project's compiled step: float32 parameters and moments, bfloat16 products, fused
attention, blocks compiled once and run in a loop. MFU counts the FLOPs that the model needs, with full attention and
nothing recomputed, against the dense bfloat16 peak of the chip; both counts of attention are given. A size is skipped
where its state does not fit. It needs one device that `scaling.devices.hardware` knows, an H200 say, and writes its
table to benchmarks/decoders.md with `--out`.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.feeding.placement import DeviceData, Standard
from scaling.devices.hardware import chip_of, mfu
from scaling.learning.step import make_hyper
from scaling.models.counting.flops import Convention, count_flops
from scaling.models.counting.params import count_params
from scaling.models.registry import make_shape
from scaling.specs.execution import Execution
from scaling.specs.models import TransformerSpec
from scaling.specs.task import token_task
from scaling.specs.training import AdamWSpec, TrainingSpec
from scaling.training.program import get_program

VOCAB, LENGTH, POOL = 32_768, 2_048, 512
SIZES = {"100M": (100_000_000, 32), "350M": (350_000_000, 16), "1B": (1_000_000_000, 8)}  # N, sequences a step
WAYS = {
    "plain": Execution(attention="plain", scan_blocks=True, remat="full"),
    "fused": Execution(attention="fused", scan_blocks=True),
    "fused, dots kept": Execution(attention="fused", scan_blocks=True, remat="dots"),
}


def noise(num_tokens: int) -> DeviceData:
    """Returns sequences of random tokens."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, (POOL, num_tokens + 1)).astype(np.int32)
    empty = np.zeros(0, np.float32)
    standard = Standard(empty, empty, np.float32(0.0), np.float32(1.0))
    data = DeviceData(tokens, np.zeros(POOL, np.int8), np.arange(POOL, dtype=np.int32), standard)  # type: ignore[arg-type]
    return jax.tree.map(jnp.asarray, data)


def measure(num_params: int, batch_size: int, execution: Execution, num_steps: int, length: int) -> dict[str, Any]:
    """Returns what one size reaches: tokens a second, MFU, bytes at the peak, seconds to compile."""
    spec = TransformerSpec(
        num_params=num_params, is_gated=True, activation="silu", normalization="rms", bias=False, head_size=128
    )
    shape = make_shape(spec, token_task(VOCAB, length))
    optimizer = AdamWSpec(peak_lr=1e-4, b2=0.95, weight_decay=0.1)
    training = TrainingSpec(
        optimizer=optimizer, batch_size=batch_size, num_steps=1_000, precision="bfloat16", clip_norm=1.0, z_loss=1e-4
    )
    program = get_program(shape, training, None, execution)
    hyper = make_hyper(training, POOL, 0)
    data = noise(length)
    began = time.perf_counter()
    state, losses = program.run(program.init(hyper.seed), hyper, data, np.int32(1))
    jax.block_until_ready((state, losses))
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    state, losses = program.run(state, hyper, data, np.int32(num_steps))
    jax.block_until_ready((state, losses))
    seconds = time.perf_counter() - began
    tokens = num_steps * batch_size * length / seconds
    kind, memory = jax.devices()[0].device_kind, jax.local_devices()[0].memory_stats() or {}
    utilizations = {
        which: mfu(tokens, sum(count_flops(shape, Convention(attention=which)).train.values()), 1, kind, "bfloat16")
        for which in ("full", "causal")
    }
    return {
        "params": sum(count_params(shape).values()),
        "shape": f"{shape.depth} blocks of {shape.width}",
        "tokens": tokens,
        "mfu": utilizations,
        "bytes": memory.get("peak_bytes_in_use"),
        "compile": compiled,
        "loss": float(np.asarray(losses)[num_steps - 1]),
    }


def main() -> None:
    """Prints the table; `--out` also writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = jax.devices()[0]
    if chip_of(device.device_kind) is None:
        sys.exit(
            f"{device.device_kind!r} has no known peak, so no MFU; run this on an accelerator that is in the table"
        )
    lines = ["| N | shape | execution | tokens/s | MFU | MFU, causal half | peak memory, GiB | compilation, s |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for size in options.sizes:
        num_params, batch_size = SIZES[size]
        for way in options.ways:
            try:
                found = measure(num_params, batch_size, WAYS[way], options.steps, options.length)
            except jax.errors.JaxRuntimeError as error:
                lines.append(f"| {size} | | {way} | {str(error).splitlines()[0][:80]} | | | | |")
                continue
            full, causal = (f"{found['mfu'][which]:.1%}" for which in ("full", "causal"))
            memory = "–" if found["bytes"] is None else f"{found['bytes'] / 2**30:.1f}"
            lines.append(
                f"| {found['params']:,} | {found['shape']}, {batch_size} × {options.length} | {way} "
                f"| {found['tokens']:,.0f} | {full} | {causal} | {memory} | {found['compile']:.0f} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    if options.out:
        head = ["# Large decoders", "", (__doc__ or "").split("\n\n")[1].replace("\n", " "), ""]
        head += [f"{device.device_kind}, one device; JAX {jax.__version__}.", ""]
        options.out.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    main()
