"""`scaling compare`: where two series cross, who is ahead at each size, and how much compute the candidate saves."""

import argparse
import dataclasses

from analysis.errors import AnalysisError
from launch.commands.arguments import add_json
from launch.commands.sources import (
    add_source,
    check_label,
    clean,
    declared_study,
    print_warnings,
    read_source,
    show_interval,
)
from launch.exits import DONE
from launch.text import count, print_json, render_table
from scaling.specs.base import Json
from scaling.specs.fits import LAW, RESAMPLES
from scaling.specs.metrics import is_lower_better


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser)
    parser.add_argument("--baseline", required=True, metavar="LABEL")
    parser.add_argument("--candidate", required=True, metavar="LABEL")
    parser.add_argument("--target", metavar="COLUMN", help="what is compared; default the study's metric, else loss")
    parser.add_argument("--law", metavar="NAME", help=f"a law of one variable; default {LAW}")
    parser.add_argument(
        "--bootstrap", type=count, default=RESAMPLES, metavar="R", help=f"resamples; default {RESAMPLES}"
    )
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints where two series cross, who is ahead at each size, and how much compute the candidate saves."""
    from analysis.decisions.compare import find_crossings, order_by_size
    from analysis.decisions.gain import compare_series
    from analysis.fit_table import SIZE
    from analysis.laws.registry import get_law
    from analysis.uncertainty.bootstrap import bootstrap_series

    frame, study = read_source(options), declared_study(options.source)
    pair = (options.baseline, options.candidate)
    for flag, label in zip(("--baseline", "--candidate"), pair, strict=True):
        check_label(frame, flag, label)
    target, rows = options.target or study["metric"], frame[frame["label"].isin(pair)]
    lower = is_lower_better(target)
    law, notices = get_law(options.law or LAW), []
    declared = {name: study["fit"][name] for name in ("objective", "delta")} | {"resamples": options.bootstrap}
    document: Json = {"baseline": pair[0], "candidate": pair[1], "target": target}
    for name, column in {"data": SIZE, "compute": "train_flops"}.items():
        document[name] = None
        if column not in rows.columns or rows.groupby("label")[column].nunique().min() <= len(law.params):
            notices.append(f"no comparison over {column}: fewer distinct values than {law.name} needs; run more sizes")
            continue
        bootstrap = bootstrap_series(rows, law.bind((column,)), target, **declared)
        notices += [
            f"{label}, {column}: {warning}" for label, fit in bootstrap.fits.items() for warning in fit.warnings
        ]
        part: Json = {"crossings": [], "gain": None}
        if name == "data":
            part["order"] = order_by_size(rows, target, lower_is_better=lower).pairs.to_dict("records")
            part["crossings"] = [
                dataclasses.asdict(crossing) for crossing in find_crossings(bootstrap, lower_is_better=lower)
            ]
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


def _print_comparison(document: Json) -> None:
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
        for crossing in document["data"]["crossings"]:
            at = f"m = {crossing['size']:,.0f} ({show_interval(crossing['low'], crossing['high'])})"
            print(
                f"\nthe fitted curves cross at {at}: {crossing['ahead_before']} before, {crossing['ahead_after']} after"
            )
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
