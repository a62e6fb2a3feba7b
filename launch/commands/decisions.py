"""The commands that decide: `optimum`, `compare` and `suggest`."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis.errors import AnalysisError, suggest_name
from launch.commands.tables import (
    add_source,
    clean,
    declared_study,
    print_warnings,
    read_numbers,
    read_source,
    show_interval,
)
from launch.text import print_json, render_table
from scaling.specs.base import InputError

if TYPE_CHECKING:
    import pandas as pd

DONE = 0
OF_FITS = ("loss", "inference_tokens", "unique_data", "peak_flops", "mfu")  # what only a saved fit can answer


def optimum(options: argparse.Namespace) -> int:
    """Prints the compute-optimal size and data, with 95 % intervals: of a saved fit, or by three approaches to a table.

    A saved fit answers at a budget or for a loss. A table is read by its envelope, by isoFLOP profiles and by a law,
    beside each other; where it says how N and C were counted, the law is fitted under every way of counting.
    """
    from analysis.decisions.optimum import find_optimum
    from analysis.fitting.fit import choose_fit, load_fits

    if not options.source.endswith(".json"):
        return _compare_approaches(options)
    one = choose_fit(load_fits(options.source), options.label)
    found = find_optimum(
        one, flops=options.flops, price_per_chip_hour=options.price,
        **{name: getattr(options, name) for name in OF_FITS},
    )  # fmt: skip
    if options.json:
        print_json(found.model_dump(mode="json"))
    else:
        rows = [
            {"": name, "optimum": item.value, "95 %": show_interval(item.low, item.high)}
            for name, item in found.quantities.items()
        ]
        print(f"{one.form.formula}\n\n{render_table(rows)}")
        print_warnings([*found.warnings, *one.warnings], [])
    return DONE


def _compare_approaches(options: argparse.Namespace) -> int:
    from analysis.decisions.approaches import compare_approaches
    from analysis.decisions.conventions import compare_conventions

    asked = [f"--{name.replace('_', '-')}" for name in (*OF_FITS, "price") if getattr(options, name)]
    if asked:
        raise InputError(
            f"{', '.join(asked)}: of a saved fit alone; write one with scaling fit {options.source} --law chinchilla "
            "--to FIT.json"
        )
    frame = read_source(options)
    if options.label is not None:
        _check_label(frame, "--label", options.label)
        frame = frame[frame["label"] == options.label]
    target, law = options.target or declared_study(options.source)["metric"], options.law or "chinchilla"
    found = compare_approaches(frame, flops=options.flops, law=law, target=target)
    counted = any(name.startswith(("params_", "flops_")) for name in frame.columns)
    conventions = compare_conventions(frame, law=law, target=target) if counted else None
    if options.json:
        document = {
            "flops": found.flops,
            "approaches": found.to_frame().reset_index().to_dict("records"),
            "missing": dict(found.missing),
            "disagreement": {"exponent": found.exponent_gap, "num_params": found.size_ratio},
            "conventions": conventions and conventions.rows.to_dict("records"),
            "warnings": [one.model_dump() for one in (*found.warnings, *(conventions.warnings if conventions else ()))],
        }
        print_json(clean(document))
    else:
        print(found)
        if conventions:
            print(f"\nthe exponent of N* under every way of counting N and C\n{conventions}")
    return DONE


def _check_label(frame: "pd.DataFrame", flag: str, label: str) -> None:
    labels = set(frame["label"]) if "label" in frame.columns else set()
    if label not in labels:
        raise suggest_name(flag, label, labels)


def compare(options: argparse.Namespace) -> int:
    """Prints where two series cross, who is ahead at each size, and how much compute the candidate saves."""
    from analysis.decisions.compare import find_crossings, order_by_size
    from analysis.decisions.gain import compare_series
    from analysis.fit_table import SIZE
    from analysis.laws.registry import get_law
    from analysis.uncertainty.bootstrap import bootstrap_series

    frame, study = read_source(options), declared_study(options.source)
    pair = (options.baseline, options.candidate)
    for flag, label in zip(("--baseline", "--candidate"), pair, strict=True):
        _check_label(frame, flag, label)
    target, rows = options.target or study["metric"], frame[frame["label"].isin(pair)]
    law, notices = get_law(options.law or "power_floor"), []
    declared = {name: study["fit"][name] for name in ("objective", "delta")} | {"resamples": options.bootstrap}
    document: dict[str, Any] = {"baseline": pair[0], "candidate": pair[1], "target": target}
    for name, column in {"data": SIZE, "compute": "train_flops"}.items():
        document[name] = None
        if column not in rows.columns or rows.groupby("label")[column].nunique().min() <= len(law.params):
            notices.append(f"no comparison over {column}: fewer distinct values than {law.name} needs; run more sizes")
            continue
        bootstrap = bootstrap_series(rows, law.bind((column,)), target, **declared)
        notices += [f"{label}, {column}: {one}" for label, fit in bootstrap.fits.items() for one in fit.warnings]
        part: dict[str, Any] = {"crossings": [], "gain": None}
        if name == "data":
            part["order"] = order_by_size(rows, target).pairs.to_dict("records")
            part["crossings"] = [dataclasses.asdict(crossing) for crossing in find_crossings(bootstrap)]
        try:
            gain = compare_series(bootstrap, *pair)
        except AnalysisError as error:
            notices.append(str(error))
        else:
            notices += map(str, gain.notices)
            part["gain"] = {
                "reference": gain.reference, "offset": dataclasses.asdict(gain.offset), "paired": gain.is_paired,
                "exponent": dataclasses.asdict(gain.exponent), "verdict": gain.verdict,
                "curve": gain.table.to_dict("records"), "says": str(gain),
            }  # fmt: skip
        document[name] = part
    if document["data"] is None and document["compute"] is None:
        raise AnalysisError("; ".join(notices))
    document = clean(document)
    if options.json:
        print_json({**document, "warnings": notices})
    else:
        _print_comparison(document)
        print_warnings(notices, [])
    return DONE


def _print_comparison(document: dict[str, Any]) -> None:
    print(f"{document['candidate']} beside {document['baseline']}, {document['target']}")
    if document["data"]:
        rows = [
            {
                "m": row["m"], "seeds": row["seeds"], f"{row['first']} - {row['second']}": row["difference"],
                "95 %": show_interval(row["low"], row["high"]), "ahead": row["better"] or "not settled",
            }
            for row in document["data"]["order"]
        ]  # fmt: skip
        print(f"\nDifferences at each m, paired by seed\n\n{render_table(rows)}")
        for one in document["data"]["crossings"]:
            at = f"m = {one['size']:,.0f} ({show_interval(one['low'], one['high'])})"
            print(f"\nthe fitted curves cross at {at}: {one['ahead_before']} before, {one['ahead_after']} after")
    for name, what in {"data": "m", "compute": "C"}.items():
        gain = document[name] and document[name]["gain"]
        if gain:
            rows = [
                {
                    what: row[column],
                    "loss": row["loss"],
                    "gain": row["gain"],
                    "95 %": show_interval(row["low"], row["high"]),
                }
                for row in gain["curve"][::8]
                for column in (next(iter(row)),)
            ]
            print(f"\nHow many times more {what} {document['baseline']} needs for the same {document['target']}\n")
            print(f"{render_table(rows)}\n\n{gain['says']}")


def suggest(options: argparse.Namespace) -> int:
    """Prints the next runs that say most about a target budget, for what they cost."""
    from analysis.decisions.design import suggest_cells
    from analysis.fit_table import fit as fit_table
    from analysis.fitting.fit import choose_fit, load_fits

    target = read_numbers([options.target_budget], "--target")
    if set(target) != {"flops"}:
        raise InputError(f"--target {options.target_budget!r}: write --target flops=1e22")
    if options.source.endswith(".json"):
        one = choose_fit(load_fits(options.source), options.label)
    else:
        one = fit_table(read_source(options), options.law or "chinchilla", None, bootstrap=options.bootstrap)
    frame = suggest_cells(one, target_flops=target["flops"], budget_flops=options.budget)
    rows = clean([{str(name): value for name, value in row.items()} for row in frame.to_dict("records")])
    if options.json:
        print_json({"law": one.law, "target_flops": target["flops"], "budget_flops": options.budget, "cells": rows})
    else:
        print(render_table(rows))
        print_warnings(one.warnings, [])
    return DONE


def add_commands(add: Callable[..., argparse.ArgumentParser], add_json: Callable[..., None]) -> None:
    """Adds these commands to the parser of `scaling`."""
    sub = add("optimum", optimum)
    add_source(sub, metavar="FIT.json|STORE|FILE", help="a fit of a law of num_params and data_seen, or a table")
    sub.add_argument("--flops", type=float, metavar="C", help="the budget; default of a table its largest")
    sub.add_argument("--loss", type=float, metavar="L", help="instead of a budget: the loss to reach")
    sub.add_argument(
        "--inference-tokens", type=float, default=0.0, metavar="T", help="tokens it will serve, at 2 N each"
    )
    sub.add_argument("--unique-data", type=float, metavar="U", help="distinct tokens there are; more means repeating")
    sub.add_argument("--price", type=float, metavar="DOLLARS", help="of a chip-hour; with the next two")
    sub.add_argument("--peak-flops", type=float, metavar="F", help="FLOP/s of a chip")
    sub.add_argument("--mfu", type=float, metavar="SHARE", help="share of the peak that is reached, 0.4 say")
    sub.add_argument("--label", help="which series, where the file holds several")
    sub.add_argument("--law", metavar="NAME", help="of a table; default chinchilla")
    sub.add_argument("--target", metavar="COLUMN", help="of a table; default the study's metric, else loss")
    add_json(sub)
    sub = add("compare", compare)
    add_source(sub)
    sub.add_argument("--baseline", required=True, metavar="LABEL")
    sub.add_argument("--candidate", required=True, metavar="LABEL")
    sub.add_argument("--target", metavar="COLUMN", help="what is compared; default the study's metric, else loss")
    sub.add_argument("--law", metavar="NAME", help="a law of one variable; default power_floor")
    sub.add_argument("--bootstrap", type=int, default=1000, metavar="R", help="resamples; default 1000")
    add_json(sub)
    sub = add("suggest", suggest)
    add_source(sub, metavar="FIT.json|STORE|FILE", help="a fit of a law of num_params and data_seen, or a table")
    sub.add_argument("--target", required=True, dest="target_budget", metavar="flops=C", help="where it should be sure")
    sub.add_argument("--budget", required=True, type=float, metavar="C", help="FLOPs to spend on new runs")
    sub.add_argument("--law", metavar="NAME", help="default chinchilla")
    sub.add_argument("--label", help="which series, where a saved fit holds several")
    sub.add_argument("--bootstrap", type=int, default=200, metavar="R", help="resamples that it averages over")
    add_json(sub)
