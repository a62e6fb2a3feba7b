"""`scaling suggest`: the next runs that say most about a target budget, for what they cost."""

import argparse

from launch.commands.arguments import add_json
from launch.commands.sources import add_source, clean, print_warnings, read_numbers, read_source
from launch.exits import DONE
from launch.text import count, number, print_json, render_table
from scaling.specs.base import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser, metavar="FIT.json|STORE|FILE", help="a fit of a law of num_params and data_seen, or a table")
    parser.add_argument(
        "--target", required=True, dest="target_budget", metavar="flops=C", help="where it should be sure"
    )
    parser.add_argument("--budget", required=True, type=number, metavar="C", help="FLOPs to spend on new runs")
    parser.add_argument("--law", metavar="NAME", help="default chinchilla")
    parser.add_argument("--label", help="which series, where a saved fit holds several")
    parser.add_argument("--bootstrap", type=count, default=200, metavar="R", help="resamples that it averages over")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints the next runs that say most about a target budget, for what they cost."""
    from analysis.decisions.design import suggest_cells
    from analysis.fit_table import fit as fit_table
    from analysis.fitting.fit import choose_fit, is_saved_fit, load_fits

    target = read_numbers([options.target_budget], "--target")
    if set(target) != {"flops"}:
        raise InputError(f"--target {options.target_budget!r}: write --target flops=1e22")
    if is_saved_fit(options.source):
        fit = choose_fit(load_fits(options.source), options.label)
    else:
        fit = fit_table(read_source(options), options.law or "chinchilla", None, bootstrap=options.bootstrap)
    frame = suggest_cells(fit, target_flops=target["flops"], budget_flops=options.budget)
    rows = clean([{str(name): value for name, value in row.items()} for row in frame.to_dict("records")])
    if options.json:
        print_json({"law": fit.law, "target_flops": target["flops"], "budget_flops": options.budget, "cells": rows})
    else:
        print(render_table(rows))
        print_warnings(fit.warnings, [])
    return DONE
