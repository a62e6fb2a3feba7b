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
    names = [launch.name for launch in launches if not is_cancelled(store, launch.name)]
    for name in names:
        cancel_launch(store, name)
    deadline = time.monotonic() + (0.0 if options.now else SAVE_SECONDS)
    all_names = {launch.name for launch in launches}
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
        print(f"{len(names)} launches cancelled, {ended} allocations ended; the same `scaling run` goes on from here")
        for words in problems:
            print(f"scaling: {words}", file=sys.stderr)
        if busy:
            print(f"scaling: {len(busy)} workers have not ended yet: {', '.join(busy)}", file=sys.stderr)
    return WORK_FAILED if problems or busy else DONE


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
