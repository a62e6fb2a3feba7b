"""The command `scaling import`: what people type; the work, and all it imports, waits until it is asked for."""

import argparse
from collections.abc import Callable

from launch.imports import TABLES

SOURCES = ("wandb", "wandb-offline", "mlflow", "tensorboard", *TABLES)
DEFAULT_PATIENCE_SECONDS = 600.0


def import_runs(options: argparse.Namespace) -> int:
    """Brings other people's runs into a folder, and maps them to the tidy table that the other commands read.

    Runs are kept as they came, so that a mapping can change without fetching them again; the same command goes on
    after an interruption, and fetches only what is new, changed or still going. Without a mapping it lists the names
    that there are, writes a proposal to look at, and ends with status 2.
    """
    from launch.imports.importing import bring_runs

    return bring_runs(options)


def add_commands(add: Callable[..., argparse.ArgumentParser], add_json: Callable[..., None]) -> None:
    """Adds `import` to the parser of `scaling`."""
    sub = add("import", import_runs, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub.add_argument("kind", choices=SOURCES, metavar="SOURCE", help=", ".join(SOURCES))
    sub.add_argument(
        "address", metavar="WHERE", help="ENTITY/PROJECT, a folder, a file, sqlite:///FILE or a server's address"
    )
    sub.add_argument("--store", metavar="DIR", required=True, help="a local folder for the runs and their table")
    sub.add_argument(
        "--column", action="append", default=[], metavar="NAME=THEIRS",
        help="what a column is made of: config.lr, history.eval/loss, history._step*config.batch_size, last(NAME), "
        "count(NAME) for 124M, 'a text'; NAME?= may be empty",
    )  # fmt: skip
    sub.add_argument("--mapping", metavar="FILE", help="a mapping.json; default DIR/mapping.json, once there is one")
    sub.add_argument(
        "--derive", action="append", default=[], metavar="NAME", choices=("data_seen", "num_params", "train_flops"),
        help="compute that column by C = 6 N D, which is recorded",
    )  # fmt: skip
    sub.add_argument("--filter", metavar="JSON", help='of W&B runs: {"state": "finished", "config.lr": 0.1}')
    sub.add_argument("--experiment", action="append", default=[], metavar="NAME", help="of MLflow; default all")
    sub.add_argument("--run-column", metavar="NAME", help="of a table: says to which run a row of a history belongs")
    sub.add_argument(
        "--patience", type=float, default=DEFAULT_PATIENCE_SECONDS, metavar="SECONDS",
        help="how long W&B may refuse or be silent before the import stops; default 600",
    )  # fmt: skip
    sub.add_argument("--dry-run", action="store_true", help="list what would be fetched, and stop")
    sub.add_argument("--no-fetch", action="store_true", help="map what the folder holds; asks no one")
    add_json(sub)
