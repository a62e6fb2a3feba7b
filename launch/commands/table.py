"""`scaling table`: the records of a store, or anybody's file, as one tidy table."""

import argparse
import sys
from typing import TYPE_CHECKING

from launch.commands.arguments import add_json
from launch.commands.sources import add_source, clean, read_source
from launch.exits import DONE
from launch.text import print_json
from scaling.specs.base import InputError

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser)
    parser.add_argument(
        "--to", metavar="FILE", help="write .csv, .tsv, .json, .jsonl or .parquet; as text also packed, .csv.gz"
    )
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints or writes the records of a store, or anybody's file, as one tidy table."""
    from analysis.tables.csv_text import write_csv
    from analysis.tables.table import write_table

    frame = read_source(options)
    _say_copies(frame, options.copies)
    if options.to:
        try:
            write_table(frame, options.to)
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"--to {options.to!r} cannot be written ({reason}); choose another file") from None
        print(f"{len(frame)} rows, {len(frame.columns)} columns: {options.to}", file=sys.stderr)
    elif options.json:
        print_json(clean(frame.astype(object).where(frame.notna(), None).to_dict("records")))
    elif sys.stdout.isatty():
        filled = frame.dropna(axis="columns", how="all")
        print(filled.to_string(max_rows=40, max_cols=None, line_width=160, index=False))
    else:
        write_csv(frame, sys.stdout)
    return DONE


def _say_copies(frame: "pd.DataFrame", copies: str) -> None:
    """Says on standard error which rows repeat another one: all are in the table, and a fit counts each once."""
    from analysis.tables.copies import find_copies

    if copies == "once" and "cell" not in frame.columns and (sentence := find_copies(frame).said):
        print(f"{sentence}; a fit counts them once, or all of them with --copies all", file=sys.stderr)
