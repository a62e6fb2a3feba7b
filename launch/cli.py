"""The `scaling` command: parses the call, and turns errors into one line and an exit status."""

import argparse
import sys
import traceback
from collections.abc import Sequence

# Heavy libraries are imported inside the commands that need them: `scaling --help` and `status` must start at once.
from analysis.errors import AnalysisError
from launch.commands import (
    cancel,
    cell,
    compare,
    fit,
    import_runs,
    logs,
    models,
    optimum,
    plan,
    predict,
    report,
    run,
    status,
    suggest,
    sync,
    table,
    work,
)
from launch.commands.arguments import add_code, load_code
from launch.engines import EngineError
from launch.exits import DONE, PREEMPTED, WORK_FAILED, WRONG_CALL
from launch.workers.flags import run_with_flags
from scaling.specs.base import InputError
from scaling.store.record import CorruptStoreError

# What people type, in the order of the help: modules with `add_arguments` and `command`.
COMMANDS = {
    "plan": plan,
    "run": run,
    "work": work,
    "cell": cell,
    "status": status,
    "logs": logs,
    "cancel": cancel,
    "table": table,
    "fit": fit,
    "predict": predict,
    "optimum": optimum,
    "compare": compare,
    "suggest": suggest,
    "import": import_runs,
    "sync": sync,
    "report": report,
    "models": models,
}

# Commands that have no use for users' code; agents have that of their launch.
WITHOUT_CODE = ("work", "status", "logs", "cancel", "table", "import")
# What an installation for analysing tables alone lacks.
OF_TRAINING = ("jax", "jaxlib", "flax", "optax", "orbax", "grain", "tensorflow_datasets", "sklearn", "absl", "PIL")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status: 0 done, 1 the work failed, 2 the call was wrong, 75 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    trains_itself = words[:1] == ["cell"] or (words[:1] == ["work"] and "--distributed" in words)
    if trains_itself and not {"-h", "--help"} & set(words):
        run_with_flags(_call, words)  # exits
    return _call(words)


def _call(words: Sequence[str]) -> int:
    """Runs the command that some words mean, and returns the exit status."""
    given = make_parser().parse_args(words)
    try:
        load_code(given)
        return COMMANDS[given.word].command(given)
    except (InputError, AnalysisError) as error:
        _tell(error, given.debug)
        return WRONG_CALL
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OF_TRAINING:
            raise
        told = InputError(
            f"{given.word} needs {error.name}, which is not installed: this is an installation for analysing tables "
            "(docs/tables.md); pip install scaling has what trains"
        )
        _tell(told, given.debug)
        return WRONG_CALL
    except (CorruptStoreError, EngineError) as error:
        _tell(error, given.debug)
        return WORK_FAILED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return PREEMPTED
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
        return DONE


def _tell(error: Exception, debug: bool) -> None:
    """Prints an error as one line, after its traceback where that is asked for."""
    if debug:
        traceback.print_exception(error)
    hint = "" if debug or error.__cause__ is None else "; --debug shows the traceback"
    print(f"scaling: {error}{hint}", file=sys.stderr)


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands, which says in `word` which one was typed."""
    parser = argparse.ArgumentParser(
        prog="scaling", description="Scaling-law research: sweeps, and the laws they follow."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="word")
    for word, module in COMMANDS.items():
        text = module.command.__doc__ or ""
        line = text.splitlines()[0].replace("%", "%%")  # argparse formats help and leaves descriptions as they are
        command = commands.add_parser(word, help=line, description=text)
        module.add_arguments(command)
        if word not in WITHOUT_CODE:
            add_code(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
