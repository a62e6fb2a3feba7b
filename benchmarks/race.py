"""Programs that train side by side in turns: each in a process of its own, on the same cores, in one process tree."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

Trainer = Callable[[int], None]


class Rates(NamedTuple):
    """Units a second, of wall time and of CPU time; medians of the turns."""

    wall: float
    cpu: float


def serve(train: Trainer, greeting: str) -> None:
    """Compiles, says so, and trains as many steps as each line of standard input says; answers with the seconds."""
    train(2)
    print(greeting, flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        train(int(line))
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)


def race(
    commands: dict[str, list[str]], cores: Sequence[int], *, repeats: int, steps: int, units: int
) -> tuple[dict[str, Rates], dict[str, str]]:
    """Returns each side's rates, and its greeting.

    Args:
      commands: of each side; the program calls `serve`.
      cores: that all are held to, from their first instruction.
      repeats: turns of each, after one to warm up.
      steps: of each turn.
      units: examples or tokens of a step.
    """
    running = {side: _start(command, cores) for side, command in commands.items()}
    rates: dict[str, list[Rates]] = {side: [] for side in commands}
    try:
        greetings = {side: _answer(process).strip() for side, process in running.items()}
        for turn in range(repeats + 1):
            for side, process in running.items():
                assert process.stdin is not None  # noqa: S101  (it is a pipe)
                print(steps, file=process.stdin, flush=True)
                wall, cpu = json.loads(_answer(process))
                if turn:
                    rates[side].append(Rates(steps * units / wall, steps * units / cpu))
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    return {side: Rates(*map(statistics.median, zip(*r, strict=True))) for side, r in rates.items()}, greetings


def tabulate(
    titles: dict[str, str], results: dict[int, dict[str, Rates]], peers: Sequence[str], unit: str
) -> list[str]:
    """Returns the lines of a table, by number of cores; ratios are to the best of the peers.

    Args:
      titles: of the sides.
      results: rates of the sides, by number of cores.
      peers: sides to compare with.
      unit: what is counted.
    """
    heads, rules = "| side |", "|---|"
    for count in results:
        heads += f" {count} core{'s' * (count > 1)}, {unit}/s | × | {unit}/CPU-s | × |"
        rules += "---|" * 4
    lines = [heads, rules]
    for side in next(iter(results.values())):
        line = f"| {titles[side]} |"
        for rates in results.values():
            theirs = [rates[peer] for peer in peers if peer in rates] or [rates[side]]
            best = [max(column) for column in zip(*theirs, strict=True)]
            line += "".join(f" {rate:,.0f} | {rate / of:.2f} |" for rate, of in zip(rates[side], best, strict=True))
        lines.append(line)
    return [*lines, ""]


def _start(command: list[str], cores: Sequence[int]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),  # noqa: PLW1509  (no thread has started yet)
    )


def _answer(process: subprocess.Popen[str]) -> str:
    """Returns a side's next line."""
    assert process.stdout is not None  # noqa: S101  (it is a pipe)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended early")
    return line
