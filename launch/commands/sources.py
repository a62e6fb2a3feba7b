"""What the commands that read tables share: sources, pairs of the command line, documents without infinities."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError, suggest_name
from launch.commands.arguments import add_derive
from scaling.specs.base import InputError, Json
from scaling.specs.counts import parse_number
from scaling.specs.fits import METRIC, FitSpec
from scaling.specs.metrics import MetricFacts, facts_of, is_lower_better
from scaling.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from analysis.fitting.fit import Fit
    from analysis.tables.provenance import Table

# A rule on a field of the cells, by its path.
FIELD = re.compile(r"[A-Za-z_]\w*\.[A-Za-z_]")
# Of a pair, for whoever typed another one.
EXAMPLES = {"--column": "loss=val_loss", "--hold": "E=1.69", "--line": "people=0.02"}


def add_source(sub: argparse.ArgumentParser, **kwargs: Any) -> None:
    """Adds what names a table, and how its columns and rows are read, to a command."""
    kinds = "a store, an import, or a file: .csv, .tsv, .json, .jsonl, .parquet, .xlsx, also packed; or 'curves/*.csv'"
    source = {"metavar": "STORE|FILE", "help": kinds, **kwargs}
    sub.add_argument("source", **source)
    sub.add_argument("more", nargs="*", metavar="FILE", help="more files of the same table")
    sub.add_argument("--keep", action="append", default=[], metavar="EXPR", help="only rows with, say, 'loss<3.44'")
    sub.add_argument(
        "--column", action="append", default=[], metavar="NAME=THEIRS",
        help="what a column is called in the file, or made of: 'data_seen=`Tokens (B)`*1e9', 'num_params=count(Size)' "
        "for 70M, 'accuracy=number(Acc)' for 85.3%%; NAME?= leaves empty what is no number",
    )  # fmt: skip
    add_derive(sub)
    sub.add_argument(
        "--name", metavar="PATTERN",
        help="settings that names of files or runs hold: 'curve_N{num_params}_D{data_seen}.csv', or COLUMN=PATTERN",
    )  # fmt: skip
    sub.add_argument("--sheet", metavar="NAME", help="of an Excel file: which sheet; default the first with rows")
    sub.add_argument("--last-of", metavar="COLUMN", help="only the last row of each run that COLUMN names")
    sub.add_argument(
        "--best-over", metavar="COLUMN,…", type=lambda text: tuple(text.split(",")), default=(),
        help="only the row of the best target over these settings, at each point",
    )  # fmt: skip
    sub.add_argument(
        "--copies", choices=("once", "all"), default="once",
        help="rows that repeat another one in everything count once (default) or all",
    )  # fmt: skip
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


def read_source(options: argparse.Namespace, *, is_said: bool = False) -> "Table":
    """Returns the table that a call names; what reading it guessed, converted or doubts goes to standard error.

    Args:
      options: of the call.
      is_said: whether the command says it by itself.

    Raises:
      AnalysisError: there is no such table, or a column is not in it.
    """
    from analysis.tables.table import read_table

    columns = dict(split_pair(pair, "--column") for pair in options.column)
    sources = [options.source, *options.more]
    try:
        table = read_table(
            sources if options.more else options.source, columns=columns, derive=tuple(options.derive),
            keep=tuple(options.keep), all_fields=options.all_columns, name=options.name, sheet=options.sheet,
            last_of=options.last_of, best_over=options.best_over, copies=options.copies,
            target=_find_target(options) if options.best_over else METRIC,
            lower_is_better=False if getattr(options, "higher_is_better", False) else None,
        )  # fmt: skip
    except AnalysisError as error:
        if options.all_columns or not any(FIELD.match(rule) for rule in options.keep):
            raise
        hint = "--all-columns has the fields that are the same in every cell of a store, too"
        raise AnalysisError(f"{error}; {hint}") from None
    for sentence in () if is_said else table.provenance.said:
        print(sentence, file=sys.stderr)
    return table


def _find_target(options: argparse.Namespace) -> str:
    """Returns what rows are the best of: what a call asks for, else the metric of the study, else loss."""
    asked = getattr(options, "target", None)
    return str(asked or declared_study(options.source)["metric"])


def declared_study(source: str) -> Json:
    """Returns the metric and fit that a store's study declares, or for a file what a study declares by default."""
    if (Store(source).path / "study.json").exists():
        return Store.open(source).study
    return {"metric": METRIC, "fit": FitSpec().model_dump()}


def known_metrics(source: str) -> list[MetricFacts]:
    """Returns what a store's records know of users' metrics."""
    store = Store(source)
    if not (store.path / "study.json").exists():
        return []
    return [facts for record in Store.open(source).records().values() for facts in record.data.metrics]


def check_direction(target: str, known: list[MetricFacts]) -> None:
    """Checks that of a target, higher values may be said to be better.

    Raises:
      InputError: lower ones are known to be.
    """
    if facts_of(target, known) is not None and is_lower_better(target, known):
        raise InputError(
            f"--higher-is-better: of {target}, lower values are known to be better; leave the flag out, or read it "
            f"under another name with --column NAME={target}"
        )


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
        example = EXAMPLES.get(flag, "num_params=7e9")
        raise InputError(f"{flag} {pair!r} is no pair; write {flag} NAME=VALUE, for example {flag} {example}")
    return name.strip(), value.strip()


def show_interval(low: float | None = None, high: float | None = None) -> str:
    """Returns an interval for people."""
    from analysis.fit_table import format_interval

    return format_interval(low, high)


def clean(value: Any) -> Any:
    """Returns a document as JSON has it: null for every number that is not finite, lists for arrays, dates as text."""
    if isinstance(value, dict):
        return {name: clean(item) for name, item in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
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
