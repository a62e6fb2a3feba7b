"""What the commands that read tables share: sources, pairs of the command line, documents without infinities."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.errors import suggest_name
from launch.commands.arguments import add_derive
from scaling.specs.base import InputError, Json
from scaling.specs.counts import parse_number
from scaling.specs.fits import METRIC, FitSpec
from scaling.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit


def add_source(sub: argparse.ArgumentParser, **kwargs: Any) -> None:
    """Adds what names a table, and how its columns and rows are read, to a command."""
    source = {"metavar": "STORE|FILE", "help": "a store, or a .csv, .parquet or .jsonl file", **kwargs}
    sub.add_argument("source", **source)
    sub.add_argument("--keep", action="append", default=[], metavar="EXPR", help="only rows with, say, 'loss<3.44'")
    sub.add_argument(
        "--column", action="append", default=[], metavar="NAME=THEIRS", help="what a column is called in the file"
    )
    add_derive(sub)
    sub.add_argument(
        "--all-columns", action="store_true",
        help="of a store: also the fields of the cells that are the same in every one (model.depth, …)",
    )  # fmt: skip


def print_warnings(notices: Sequence[Any], fits: Sequence["Fit"]) -> None:
    """Prints notices, and every fit's warnings under its label, on standard error."""
    for notice in notices:
        print(notice, file=sys.stderr)
    for fit in fits:
        for warning in fit.warnings:
            print(f"{fit.label}: {warning}" if fit.label else warning, file=sys.stderr)


def read_source(options: argparse.Namespace) -> "pd.DataFrame":
    """Returns the table that a call names."""
    from analysis.tables.table import read_table

    columns = dict(split_pair(pair, "--column") for pair in options.column)
    return read_table(
        options.source, columns=columns, derive=tuple(options.derive), keep=tuple(options.keep),
        all_fields=options.all_columns,
    )  # fmt: skip


def declared_study(source: str) -> Json:
    """Returns the metric and fit that a store's study declares, or for a file what a study declares by default."""
    if (Store(source).path / "study.json").exists():
        return Store.open(source).study
    return {"metric": METRIC, "fit": FitSpec().model_dump()}


def read_numbers(pairs: Iterable[str], flag: str) -> dict[str, float]:
    """Returns NAME=VALUE pairs as numbers by name."""
    numbers = {}
    for pair in pairs:
        name, value = split_pair(pair, flag)
        number = parse_number(value)
        if number is None:
            raise InputError(f"{flag} {pair!r}: {value!r} is no number; write it like 7e9 or 1.5B")
        numbers[name] = number
    return numbers


def split_pair(pair: str, flag: str) -> tuple[str, str]:
    """Returns the two sides of NAME=VALUE."""
    name, equals, value = pair.partition("=")
    if not (name and equals and value):
        example = "loss=val_loss" if flag == "--column" else "num_params=7e9"
        raise InputError(f"{flag} {pair!r} is no pair; write {flag} NAME=VALUE, for example {flag} {example}")
    return name.strip(), value.strip()


def show_interval(low: float | None = None, high: float | None = None) -> str:
    """Returns an interval for people."""
    from analysis.fit_table import format_interval

    return format_interval(low, high)


def clean(value: Any) -> Any:
    """Returns a document with null for every number that is not finite, as JSON wants it."""
    if isinstance(value, dict):
        return {name: clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def check_label(frame: "pd.DataFrame", flag: str, label: str) -> None:
    """Checks that a table has a series of that label.

    Args:
      frame: the table.
      flag: what the user typed the label after.
      label: the label of the series.

    Raises:
      AnalysisError: it has none; the nearest one is named.
    """
    labels = set(frame["label"]) if "label" in frame.columns else set()
    if label not in labels:
        raise suggest_name(flag, label, labels)
