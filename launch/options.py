"""How jobs are run, whatever gives them machines: one specification, for command lines, agents and workers alike.

A new option of `scaling run` is one field of `Options`: it makes the argument and its help, is checked, goes into the
words that start agents on other machines, and reaches every worker.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from launch.coordination.claims import ONCE, Budget
from launch.coordination.presence import PATIENCE_SECONDS
from launch.text import count
from scaling.specs.base import InputError, Spec, canonical_json, override, parse, suggest
from scaling.specs.execution import CHECKPOINT_SECONDS, NUM_CHECKPOINTS, Execution


def _option(default: Any, description: str, metavar: str = "", *, word: str = "", **bounds: Any) -> Any:
    """Returns a field that is an option of commands.

    Args:
      default: the default of the field.
      description: for the command's help.
      metavar: what the help calls the value; empty for a switch.
      word: that people type, without `--`; empty for the field's name.
      bounds: the bounds of the value, as pydantic takes them.
    """
    shown: dict[str, Any] = {"metavar": metavar, "word": word}
    return Field(default, description=description, json_schema_extra=shown, **bounds)


class Options(Spec):
    """How jobs are run; each field is an option of `scaling run`, `scaling work` and `scaling cell`."""

    execution: Execution | None = _option(
        None,
        "how to run, in place of the choice made for each program: population=8, mesh.data=2, … or JSON; repeatable",
        "PATH=VALUE",
    )
    workers: int | None = _option(
        None,
        "processes on each machine; default one for every device, or every core where there is none",
        "K",
        ge=1,
    )
    spawn_workers: bool = _option(
        False, "start an interpreter for every worker, also on CPUs, where they are forked from one that has loaded all"
    )
    checkpoint_seconds: float = _option(CHECKPOINT_SECONDS, "seconds between two checkpoints; 0 for none", "S", ge=0)
    checkpoint_steps: int | None = _option(None, "steps between two checkpoints, whatever the time", "K", ge=1)
    num_checkpoints: int = _option(NUM_CHECKPOINTS, "the newest so many are kept", "K", ge=1)
    keep_checkpoints: bool = _option(False, "keep the last one of each job that is complete")
    reader_workers: int = _option(0, "processes that read data too large for the device; 0 reads in threads", "K", ge=0)
    trackers: tuple[str, ...] = _option(
        (), "who follows besides the store: wandb, tensorboard or jsonl; repeatable", "NAME", word="tracker"
    )
    retries: int = _option(0, "times that a cell which failed is tried again", "K", ge=0)
    interruptions: int = _option(
        ONCE.interruptions, "times that a cell may be interrupted before it is left to the next launch", "K", ge=1
    )
    lease_seconds: float = _option(
        PATIENCE_SECONDS, "how long a worker may show no sign of life before others take its cells", "S", ge=0.1
    )

    code: str | None = _option(
        None, "hash of the users' code in the store that cells may name, which a launch has put there", "SHA256"
    )

    @property
    def budget(self) -> Budget:
        """How often a cell may end badly in a launch."""
        return Budget(failures=1 + self.retries, interruptions=self.interruptions)

    def words(self) -> tuple[str, ...]:
        """Returns the words of a command line that mean these options, whatever the defaults are where it is read."""
        words: list[str] = []
        for name, field in type(self).model_fields.items():
            flag, value = _flag(name, field), getattr(self, name)
            if isinstance(value, bool):
                words += [flag] if value else []
            elif isinstance(value, tuple):
                words += [f"{flag}={item}" for item in value]
            elif isinstance(value, Spec):
                words.append(f"{flag}={canonical_json(value.model_dump(mode='json', exclude_defaults=True))}")
            elif value is not None:
                words.append(f"{flag}={value}")
        return tuple(words)


DEFAULTS = Options()


def add_options(parser: argparse.ArgumentParser, leaving_out: Sequence[str] = ()) -> None:
    """Adds to a command what `read_options` reads.

    Args:
      parser: the parser of the command.
      leaving_out: names of fields that mean nothing there.
    """
    for name, field in Options.model_fields.items():
        if name not in leaving_out:
            # What is not typed is absent, so that defaults stand in one place.
            parser.add_argument(
                _flag(name, field), dest=name, default=argparse.SUPPRESS, help=_help(field), **_reading(field)
            )


def read_options(given: argparse.Namespace) -> Options:
    """Returns what a user asks for.

    Raises:
      InputError: a value is out of bounds.
    """
    typed = {name: value for name, value in vars(given).items() if name in Options.model_fields}
    if "execution" in typed:
        typed["execution"] = parse_execution(typed["execution"])
    return make_options(typed, as_typed=True)


def make_options(values: Mapping[str, Any], *, as_typed: bool = False) -> Options:
    """Returns the options with these fields.

    Args:
      values: by name.
      as_typed: whether errors call a field as a command line does.

    Raises:
      InputError: there is no such option, or a value is out of bounds.
    """
    for name in values:
        if name not in Options.model_fields:
            raise InputError(f"{name}={values[name]!r}: there is no such option; {suggest(name, Options.model_fields)}")
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        return Options.model_validate(given)
    except ValidationError as error:
        raise InputError(_describe(error, as_typed=as_typed)) from None


def parse_execution(given: Sequence[str]) -> Execution | None:
    """Returns the execution that a user asks for: JSON, or `PATH=VALUE` over the defaults; None for no wish.

    Raises:
      InputError: there is no such field, or it does not take this value.
    """
    if not given:
        return None
    first, *others = given if given[0].lstrip().startswith("{") else ("{}", *given)
    try:
        (execution,) = override([parse(Execution, first, "--execution")], others)
    except InputError as error:
        raise InputError(str(error).replace("--set", "--execution")) from None
    return execution


def _flag(name: str, field: FieldInfo) -> str:
    return "--" + (_shown(field)["word"] or name).replace("_", "-")


def _shown(field: FieldInfo) -> dict[str, Any]:
    shown = field.json_schema_extra
    assert isinstance(shown, dict)  # noqa: S101  (`_option` makes every field)
    return shown


def _help(field: FieldInfo) -> str:
    has_default = field.default is not None and not isinstance(field.default, bool | tuple)
    return f"{field.description}; default {field.default:g}" if has_default else f"{field.description}"


def _reading(field: FieldInfo) -> dict[str, Any]:
    """Returns how argparse reads a field: what it does with the words, and what it calls them."""
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    if kinds == [bool]:
        return {"action": "store_true"}
    metavar = _shown(field)["metavar"]
    if get_origin(field.annotation) is tuple or kinds == [Execution]:
        return {"action": "append", "metavar": metavar}
    return {"type": count if kinds == [int] else kinds[0], "metavar": metavar}


def _describe(error: ValidationError, *, as_typed: bool) -> str:
    """Returns a line for the first value that is out of bounds: its option, the value, the bound, and what it means."""
    first, *_ = error.errors(include_url=False)
    name, bounds = str(first["loc"][0]), first.get("ctx", {})
    field = Options.model_fields[name]
    constraint = f"must be at least {bounds['ge']:g}" if "ge" in bounds else first["msg"]
    called = f"{_flag(name, field)} " if as_typed else f"{name}="
    return f"{called}{first['input']}: {constraint} ({field.description})"
