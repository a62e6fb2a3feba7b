"""`scaling predict`: what a saved fit says of sizes that were not run."""

import argparse

from launch.commands.arguments import add_json
from launch.commands.sources import clean, print_warnings, read_numbers
from launch.exits import DONE
from launch.text import print_json, render_table
from scaling.specs.base import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("fit", metavar="FIT.json", help="what scaling fit --to has written")
    parser.add_argument("--at", action="append", required=True, metavar="NAME=VALUE,…", help="a size; repeatable")
    parser.add_argument("--label", help="which series, where the file holds several")
    parser.add_argument("--new-run", action="store_true", help="intervals for a new run instead of the curve")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints what a saved fit says of sizes that were not run, with 95 % intervals."""
    import pandas as pd

    from analysis.fitting.fit import choose_fit, load_fits
    from analysis.fitting.notices import check_distance
    from analysis.uncertainty.predictions import predict_interval

    fit = choose_fit(load_fits(options.fit), options.label)
    points: list[dict[str, float]] = []
    for text in options.at:
        at = read_numbers(text.split(","), "--at")
        missing = [name for name in fit.columns if name not in at]
        unknown = [name for name in at if name not in fit.columns]
        if missing or unknown:
            raise InputError(f"--at {text!r}: give exactly {', '.join(f'{name}=VALUE' for name in fit.columns)}")
        points.append(at)
    frame = pd.DataFrame(points)
    intervals = predict_interval(fit, {name: frame[name].to_numpy() for name in fit.columns}, new_run=options.new_run)
    rows = [
        {**at, **{name: float(intervals[name].iloc[i]) for name in ("estimate", "low", "high")}}
        for i, at in enumerate(points)
    ]
    notices = check_distance(fit.ranges, {name: frame[name].to_numpy() for name in fit.columns})
    if options.json:
        warnings = [notice.model_dump() for notice in notices]
        print_json({"law": fit.law, "target": fit.target, "rows": clean(rows), "warnings": warnings})
    else:
        print(f"{fit.target or 'y'}: {fit.form.formula}; 95 % of {'new runs' if options.new_run else 'the curve'}\n")
        print(render_table(rows))
        print_warnings([*map(str, notices), *map(str, fit.warnings)], [])
    return DONE
