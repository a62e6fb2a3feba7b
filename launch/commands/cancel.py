"""`scaling cancel`: ends what is at work on a store, here and elsewhere."""

import argparse
import sys
import time

from launch.commands.arguments import add_json
from launch.coordination.launches import Launch, cancel_launch, is_cancelled, read_allocations, read_launches
from launch.coordination.presence import is_gone, read_beats
from launch.engines import LIVE, EngineError, reconnect
from launch.exits import DONE, WORK_FAILED
from launch.text import print_json
from scaling.specs.base import InputError, Json
from scaling.store.outline import cell_labels
from scaling.store.store import Store

# How long workers may take to save before their machines are taken away; they hear of it with their next heartbeat.
SAVE_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--launch", metavar="NAME", help="this one alone; default all")
    parser.add_argument("--now", action="store_true", help="do not wait for workers to save")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Ends what is at work on a store, here and elsewhere: workers save what they can, and machines are let go."""
    store = Store.open(options.store)
    launches = [launch for launch in read_launches(store) if options.launch in (None, launch.name)]
    if options.launch and not launches:
        raise InputError(
            f"--launch {options.launch}: {str(store.path)!r} has no such launch; see {store.path}/launches"
        )
    all_names = {launch.name for launch in launches}
    were_busy = bool(_workers_of(store, all_names))
    # Where a cell is left, a launch that shows nothing may be about to begin, here or elsewhere, and is told as well.
    may_begin = not all(map(store.is_complete, cell_labels(store.study)))
    names = [
        launch.name
        for launch in launches
        if not is_cancelled(store, launch.name) and (were_busy or may_begin or _may_live(store, launch))
    ]
    for name in names:
        cancel_launch(store, name)
    deadline = time.monotonic() + (0.0 if options.now else SAVE_SECONDS)
    while (busy := _workers_of(store, all_names)) and time.monotonic() < deadline:
        time.sleep(0.2)
    problems = []
    ended = 0
    for launch in launches:
        try:
            ended += _let_go(store, launch)
        except (EngineError, InputError) as error:
            problems.append(f"{launch.name}: {error}")
    document: Json = {
        "cancelled": names,
        "allocations_ended": ended,
        "workers_left": busy,
        "problems": problems,
    }
    if options.json:
        print_json(document)
    else:
        print(_describe(store, names, ended, is_idle=not (were_busy or ended or problems), may_begin=may_begin))
        for words in problems:
            print(f"scaling: {words}", file=sys.stderr)
        if busy:
            print(f"scaling: {len(busy)} workers have not ended yet: {', '.join(busy)}", file=sys.stderr)
    return WORK_FAILED if problems or busy else DONE


def _describe(store: Store, names: list[str], ended: int, *, is_idle: bool, may_begin: bool) -> str:
    if is_idle:
        told = f"; {len(names)} launches that could still begin are cancelled" if names else ""
        return f"nothing is running on {store.path}" + (told if may_begin else ", and all of its cells are complete")
    words = f"{len(names)} launches cancelled, {ended} allocations ended"
    return f"{words}; the same `scaling run` goes on from here" if may_begin else words


def _may_live(store: Store, launch: Launch) -> bool:
    """Returns whether a launch has an allocation that waits or runs, or whose engine cannot be asked."""
    handles = read_allocations(store, launch.name)
    try:
        seen = reconnect(launch.engine, launch.settings, store).observe(handles) if handles else {}
    except (EngineError, InputError):
        return True
    return any(sighting.state in LIVE for sighting in seen.values())


def _workers_of(store: Store, launches: set[str]) -> list[str]:
    return [beat.worker for beat in read_beats(store) if beat.launch in launches and not is_gone(beat.identity)]


def _let_go(store: Store, launch: Launch) -> int:
    """Ends a launch's allocations that are live, and returns how many there were."""
    handles = read_allocations(store, launch.name)
    if not handles:
        return 0
    engine = reconnect(launch.engine, launch.settings, store)
    live = [handle for handle, seen in engine.observe(handles).items() if seen.state in LIVE]
    engine.cancel(live)
    return len(live)
