"""`scaling import`: other people's runs; the work, and all it imports, waits until it is asked for."""

import argparse

from launch.commands.arguments import add_derive, add_json
from launch.imports import TABLES

SOURCES = ("wandb", "wandb-offline", "mlflow", "tensorboard", *TABLES)
DEFAULT_PATIENCE_SECONDS = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("kind", choices=SOURCES, metavar="SOURCE", help=", ".join(SOURCES))
    parser.add_argument(
        "address", metavar="WHERE", help="ENTITY/PROJECT, a folder, a file, sqlite:///FILE or a server's address"
    )
    parser.add_argument("--store", metavar="DIR", required=True, help="a local folder for the runs and their table")
    parser.add_argument(
        "--column", action="append", default=[], metavar="NAME=THEIRS",
        help="what a column is made of: config.lr, history.eval/loss, history._step*config.batch_size, last(NAME), "
        "count(NAME) for 124M, 'a text'; NAME?= may be empty",
    )  # fmt: skip
    parser.add_argument("--mapping", metavar="FILE", help="a mapping.json; default DIR/mapping.json, once there is one")
    add_derive(parser)
    parser.add_argument("--filter", metavar="JSON", help='of W&B runs: {"state": "finished", "config.lr": 0.1}')
    parser.add_argument("--experiment", action="append", default=[], metavar="NAME", help="of MLflow; default all")
    parser.add_argument(
        "--run-column",
        metavar="NAME",
        help="of a table: names the run that a row of a history belongs to; default a column that seems to",
    )
    parser.add_argument(
        "--patience", type=float, default=DEFAULT_PATIENCE_SECONDS, metavar="SECONDS",
        help="how long W&B may refuse or be silent before the import stops; default 600",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list what would be fetched, and stop")
    parser.add_argument("--no-fetch", action="store_true", help="map what the folder holds; asks no one")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Brings other people's runs into a folder, and maps them to the tidy table that the other commands read.

    Runs are kept as they came, so that a mapping can change without fetching them again; the same command goes on
    after an interruption, and fetches only what is new, changed or still going. Without a mapping it lists the names
    that there are, writes a proposal to look at, and ends with status 2.
    """
    from launch.imports.importing import bring_runs

    return bring_runs(options)
