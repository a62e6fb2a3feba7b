"""Programs compiled ahead of time for devices that need not be there, and what the compiler says of them."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax

from scaling.specs.base import InputError

COLLECTIVES = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all")

# `%name = type opcode(operands), attributes`; a type may be a tuple with layouts and comments inside.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+[a-z0-9]*)\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Collective(NamedTuple):
    """One kind of communication in a compiled program.

    Attributes:
      kind: one of `COLLECTIVES`.
      runs: times that one call of the program runs it.
      bytes: of the whole arrays that take part, on each device, all times together: of an all-gather the output, of a
        reduce-scatter the input.
    """

    kind: str
    runs: int
    bytes: int


def abstract(tree: Any, shardings: Any) -> Any:
    """Returns a tree of arrays, or of their shapes, as shapes with shardings: arguments to compile for."""
    return jax.tree.map(lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree, shardings)


def compile_abstract(
    step: Callable[..., Any], abstract_args: Sequence[Any], *, donate: Sequence[int] = (0,), out_shardings: Any = None
) -> Any:
    """Returns a function compiled for arguments that are shapes with shardings; no array is made.

    Args:
      step: a pure function.
      abstract_args: its arguments; their shardings name the devices, which may be those of a described topology.
      donate: the arguments whose memory the results may take.
      out_shardings: like the results; None lets the compiler choose.

    Raises:
      InputError: the compiler knows the devices' memory, and the program does not fit.
    """
    options: dict[str, Any] = {} if out_shardings is None else {"out_shardings": out_shardings}
    try:
        return jax.jit(step, donate_argnums=tuple(donate), **options).lower(*abstract_args).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        said = str(error).partition("RESOURCE_EXHAUSTED:")[2].strip().splitlines()[0].rstrip(".")
        raise InputError(
            f"execution.mesh: the program does not fit on its devices: {said}; choose more devices along fsdp, more "
            "execution.micro_batches, execution.remat=full, or a smaller model"
        ) from None


def report(compiled: Any) -> dict[str, Any]:
    """Returns what the compiler says of a program, of one device each.

    `memory`: bytes of `argument`, `output`, of these `alias`ed to arguments, `temp`orary, `code`, and the `peak`: all
    of them, aliased ones once. `collectives`: (kind, runs, bytes). `flops`: as XLA counts them, the body of a loop
    once; None where it does not. `unknown_loops`: loops that communicate, whose number of rounds is not in the program
    and is taken as 1.
    """
    stats = compiled.memory_analysis()
    memory = {
        "argument": stats.argument_size_in_bytes,
        "output": stats.output_size_in_bytes,
        "alias": stats.alias_size_in_bytes,
        "temp": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
    }
    memory["peak"] = memory["argument"] + memory["output"] - memory["alias"] + memory["temp"] + memory["code"]
    found, unknown_loops = count_collectives(compiled.as_text())
    costs = compiled.cost_analysis() or {}
    return {
        "memory": memory,
        "collectives": [each._asdict() for each in found],
        "unknown_loops": unknown_loops,
        "flops": costs.get("flops"),
    }


def count_collectives(text: str) -> tuple[list[Collective], int]:
    """Returns the collectives of an optimised program, and how many loops with some have an unknown length.

    Args:
      text: HLO, as a compiled function's `as_text` gives it.
    """
    computations, entry = _parse(text)
    runs = dict.fromkeys(COLLECTIVES, 0)
    sizes = dict.fromkeys(COLLECTIVES, 0)
    unknown_loops = 0

    def visit(name: str, times: int) -> bool:
        """Adds up one computation's collectives; returns whether there are any."""
        nonlocal unknown_loops
        communicates = False
        own_bytes = {line.name: line.bytes for line in computations.get(name, ())}
        for line in computations.get(name, ()):
            if line.opcode.endswith(("-done", "-update")):  # counted where they start
                continue
            kind = line.opcode.removesuffix("-start")
            if kind in runs:
                moved = sum(own_bytes.get(operand, 0) for operand in line.operands)
                result = line.bytes - moved if line.opcode.endswith("-start") else line.bytes
                runs[kind] += times
                sizes[kind] += times * max(moved, result)
                communicates = True
                continue
            rounds = (line.trip_count or 1) if line.opcode == "while" else 1
            inside = [visit(called, times * rounds) for called in line.calls]
            unknown_loops += line.opcode == "while" and line.trip_count is None and any(inside)
            communicates = communicates or any(inside)
        return communicates

    visit(entry, 1)
    return [Collective(kind, runs[kind], sizes[kind]) for kind in COLLECTIVES if runs[kind]], unknown_loops


class _Line(NamedTuple):
    name: str
    opcode: str
    bytes: int
    operands: list[str]
    calls: list[str]
    trip_count: int | None


def _parse(text: str) -> tuple[dict[str, list[_Line]], str]:
    """Returns the instructions of each computation, and the name of the first to run."""
    computations: dict[str, list[_Line]] = {}
    entry, current = "", ""
    for row in text.splitlines():
        head = _COMPUTATION.match(row)
        if head:
            current = head.group(2)
            computations[current] = []
            entry = current if head.group(1) else entry
            continue
        found = _INSTRUCTION.match(row)
        if found and current:
            name, kind, opcode, rest = found.groups()
            operands = _OPERAND.findall(rest.partition(")")[0])
            trips = _TRIP_COUNT.search(rest)
            trip_count = int(trips.group(1)) if trips else None
            computations[current].append(_Line(name, opcode, _bytes(kind), operands, list(_called(rest)), trip_count))
    return computations, entry


def _called(attributes: str) -> Iterator[str]:
    yield from _CALLED.findall(attributes)
    for branches in _BRANCHES.findall(attributes):
        yield from (name.strip().lstrip("%") for name in branches.split(","))


def _bytes(kind: str) -> int:
    """Returns the bytes of a type, arrays of a tuple together.

    >>> _bytes("(f32[8,128]{1,0:T(8,128)}, bf16[], /*index=2*/pred[3], s4[4])")
    4103
    """
    return sum(
        math.ceil(math.prod(int(size) for size in dims.split(",") if size) * _bits(dtype) / 8)
        for dtype, dims in _ARRAY.findall(kind)
    )


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", dtype)
    return int(digits.group()) if digits else 8
