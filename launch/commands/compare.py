"""`scaling compare`: an idea beside a baseline: who is ahead where, what still improves, and how much less it needs."""

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from launch.commands.arguments import add_json
from launch.commands.sources import (
    add_source,
    check_direction,
    check_label,
    clean,
    declared_study,
    known_metrics,
    print_warnings,
    read_source,
    show_interval,
)
from launch.exits import DONE
from launch.text import count, number, print_json, render_table
from scaling.specs.base import Json
from scaling.specs.fits import LAW, RESAMPLES

if TYPE_CHECKING:
    from analysis.decisions.compare import Ordering
    from analysis.decisions.gain import Gain
    from analysis.decisions.ideas import Comparison, Part

LINES = 6  # of a gain curve, in text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser)
    parser.add_argument("--baseline", required=True, metavar="LABEL")
    parser.add_argument("--candidate", required=True, metavar="LABEL")
    parser.add_argument(
        "--by", default="label", metavar="COLUMN", help="whose values are compared, model.activation say; default label"
    )
    parser.add_argument("--target", metavar="COLUMN", help="what is compared; default the study's metric, else loss")
    parser.add_argument(
        "--higher-is-better", action="store_true", help="of a target of which nothing is known; accuracy and r2 are"
    )
    parser.add_argument(
        "--law", metavar="NAME",
        help=f"of one variable, default {LAW}; where N and D both vary, of both, default chinchilla",
    )  # fmt: skip
    parser.add_argument(
        "--reach", type=number, metavar="VALUE",
        help="of the target: what is needed to reach it; default the study's target_loss, else what every run reaches",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", type=count, default=RESAMPLES, metavar="R", help=f"resamples; default {RESAMPLES}"
    )
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Compares an idea with a baseline: order, slopes, crossings, and how much less data, compute or time it needs.

    Claims of who is ahead are corrected for their number (Holm); intervals are not. Where N and D both vary, the gain
    is along the compute-optimal frontiers of both. What could not be compared is said, with the reason.
    """
    from analysis.decisions.ideas import compare_ideas

    frame, study = read_source(options), declared_study(options.source)
    target = options.target or study["metric"]
    if options.by == "label":
        for flag, label in (("--baseline", options.baseline), ("--candidate", options.candidate)):
            check_label(frame, flag, label)
    known = known_metrics(options.source)
    if options.higher_is_better:
        check_direction(target, known)
    found = compare_ideas(
        frame, options.baseline, options.candidate, target=target, by=options.by, law=options.law,
        declared=study["fit"], resamples=options.bootstrap, known=known,
        lower_is_better=False if options.higher_is_better else None,
        level=options.reach if options.reach is not None else _find_goal(study, target),
    )  # fmt: skip
    if options.json:
        print_json(clean(_document(found, options.by)))
    else:
        _print_comparison(found)
        print_warnings(found.notices, [])
    return DONE


def _find_goal(study: Json, target: str) -> float | None:
    """Returns the loss that all cells of a study stop at, if there is one."""
    cells = [cell for series in study.get("series", ()) for cell in series["cells"]]
    goals = {(cell.get("training") or {}).get("target_loss") for cell in cells}
    return goals.pop() if target == "loss" and len(goals) == 1 else None


def _document(found: "Comparison", by: str) -> Json:
    targets = found.targets
    return {
        "baseline": found.baseline,
        "candidate": found.candidate,
        "by": by,
        "target": found.measure.target,
        "lower_is_better": found.measure.lower_is_better,
        "curves_of": found.measure.name,
        **dict.fromkeys(("data", "size", "compute")),
        **{name: _document_part(part) for name, part in found.parts.items()},
        "surface": found.surface and _document_gain(found.surface),
        "targets": targets
        and {
            "level": targets.level,
            "needs": targets.table.to_dict("records"),
            "says": targets.describe(),
        },
        "warnings": [notice.model_dump() for notice in found.notices],
    }


def _document_part(part: "Part") -> Json:
    order, slopes = part.order, part.slopes
    says = slopes.describe() if slopes else {}
    return {
        "column": part.axis.column,
        "order": order and order.pairs.to_dict("records"),
        "corrected": order and {"method": "holm", "comparisons": order.num_tests, "intervals": "not corrected"},
        "slopes": slopes and [{**row, "says": says[row["label"]]} for row in slopes.table.to_dict("records")],
        "crossings": [dataclasses.asdict(crossing) for crossing in part.crossings],
        "gain": part.gain and _document_gain(part.gain),
    }


def _document_gain(gain: "Gain") -> Json:
    return {
        "column": gain.axis.column, "reference": gain.reference, "offset": dataclasses.asdict(gain.offset),
        "paired": gain.is_paired, "exponent": dataclasses.asdict(gain.exponent), "verdict": gain.verdict,
        "curve": gain.table.to_dict("records"), "says": str(gain),
    }  # fmt: skip


def _print_comparison(found: "Comparison") -> None:
    better = "lower" if found.measure.lower_is_better else "higher"
    print(f"{found.candidate} beside {found.baseline}, {found.measure.target} ({better} is better)")
    for part in found.parts.values():
        if part.order:
            _print_order(part.order, part.axis.symbol)
        if part.slopes:
            print(f"\nWhat a doubling still brings\n\n{part.slopes}")
        for crossing in part.crossings:
            print(
                f"\nthe fitted curves cross at {part.axis.format(crossing.size)} "
                f"({show_interval(crossing.low, crossing.high)}): {crossing.ahead_before} before, "
                f"{crossing.ahead_after} after"
            )
        if part.gain:
            _print_gain(part.gain, found)
    if found.surface:
        print("\nAlong the compute-optimal frontiers of both, where each budget C = 6 N D is split at its best:")
        _print_gain(found.surface, found)
    if found.targets:
        print(f"\nTo reach {found.measure.target} {found.targets.level:.4g}, interpolated between evaluations\n")
        print(render_table([_show_need(row) for row in found.targets.table.to_dict("records")]))
        print(f"\n{found.targets}")


def _print_order(order: "Ordering", symbol: str) -> None:
    rows = [
        {
            symbol: row["m"], "seeds": row["seeds"], f"{row['first']} - {row['second']}": row["difference"],
            "95 %": show_interval(row["low"], row["high"]), "p": row["p"], "p (Holm)": row["p_holm"],
            "ahead": row["better"] or "not settled",
        }
        for row in order.pairs.to_dict("records")
    ]  # fmt: skip
    print(
        f"\nDifferences at each {symbol}, paired by seed; who is ahead is corrected for {order.num_tests} comparisons "
        f"(Holm), the intervals are not\n\n{render_table([clean(row) for row in rows])}"
    )


def _print_gain(gain: "Gain", found: "Comparison") -> None:
    axis, curve = gain.axis, gain.table.to_dict("records")
    rows = [
        {
            f"{axis.symbol} of {gain.candidate}": row[axis.column], found.measure.name: row["loss"],
            f"{gain.base} needs": row["base_needs"], "times": row["gain"],
            "95 %": show_interval(row["low"], row["high"]),
        }
        for row in curve[:: max(1, len(curve) // LINES)]
    ]  # fmt: skip
    print(f"\nHow many times more {axis.noun} {gain.base} needs for the same {found.measure.name}\n")
    print(f"{render_table([clean(row) for row in rows])}\n\n{gain}")


def _show_need(row: Any) -> dict[str, Any]:
    return clean({
        "of": row["over"], "label": row["label"], "reached": f"{row['reached']} of {row['runs']}",
        "needs": row["value"], "95 %": show_interval(row["low"], row["high"]), "ratio": row["ratio"],
        "ratio 95 %": show_interval(row["ratio_low"], row["ratio_high"]), "p (Holm)": row["p_holm"],
    })  # fmt: skip
