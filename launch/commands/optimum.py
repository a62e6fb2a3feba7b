"""`scaling optimum`: the compute-optimal size and data, of a saved fit or by three approaches to a table."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
from launch.text import number, print_json, render_table
from scaling.specs.base import InputError, Json
from scaling.store.columns import is_part

if TYPE_CHECKING:
    from analysis.decisions.approaches import Approaches
    from analysis.decisions.conventions import ConventionSpread
    from analysis.decisions.valleys import Valley

OF_FITS = ("loss", "inference_tokens", "unique_data")  # what only a saved fit can answer
OF_TABLES = (
    "law",
    "target",
    "budget",
    "keep",
    "column",
    "derive",
    "more",
    "name",
    "sheet",
    "last_of",
    "best_over",
)  # what only says how a table is read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser, metavar="FIT.json|STORE|FILE", help="a fit of a law of num_params and data_seen, or a table")
    parser.add_argument("--flops", type=number, metavar="C", help="the budget; default of a table its largest")
    parser.add_argument("--loss", type=float, metavar="L", help="instead of a budget: the loss to reach")
    parser.add_argument("--inference-tokens", type=number, metavar="T", help="tokens it will serve, at 2 N each")
    parser.add_argument(
        "--unique-data", type=number, metavar="U", help="distinct tokens there are; more means repeating"
    )
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="of a chip-hour; with the next two")
    parser.add_argument("--peak-flops", type=number, metavar="F", help="FLOP/s of a chip")
    parser.add_argument("--mfu", type=float, metavar="SHARE", help="share of the peak that is reached, 0.4 say")
    parser.add_argument("--label", help="which series, where the file holds several")
    parser.add_argument("--law", metavar="NAME", help="of a table; default chinchilla")
    parser.add_argument("--target", metavar="COLUMN", help="of a table; default the study's metric, else loss")
    parser.add_argument(
        "--budget", metavar="COLUMN", help="of a table: names each run's isoFLOP budget; default about equal FLOPs"
    )
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints the compute-optimal size and data, with 95 % intervals: of a saved fit, or by three approaches to a table.

    A saved fit answers at a budget or for a loss. A table is read by its envelope, by isoFLOP profiles and by a law,
    beside each other; where it says how N and C were counted, the law is fitted under every way of counting. Whatever
    is weak, left out or means nothing is said.
    """
    from analysis.decisions.optimum import find_optimum
    from analysis.fitting.fit import choose_fit, is_saved_fit, load_fits

    if not is_saved_fit(options.source):
        return _compare_approaches(options)

    if asked := _name_given(options, OF_TABLES):
        raise InputError(
            f"{asked}: of a table alone, and {options.source} is a saved fit; leave out, or name the table"
        )
    fit = choose_fit(load_fits(options.source), options.label)
    optimum = find_optimum(
        fit, flops=options.flops, loss=options.loss, inference_tokens=options.inference_tokens or 0.0,
        unique_data=options.unique_data, price_per_chip_hour=options.price, peak_flops=options.peak_flops,
        mfu=options.mfu,
    )  # fmt: skip
    notices = list(dict.fromkeys([*optimum.warnings, *fit.warnings]))
    if options.json:
        print_json(clean(optimum.model_copy(update={"warnings": tuple(notices)}).model_dump()))
        return DONE
    rows = []
    for name, item in optimum.quantities.items():
        value, *ends = (float(part) if part else None for part in item.show())
        rows.append({"": name, "optimum": value, "95 %": show_interval(*ends)})
    print(f"{fit.form.formula}\n\n{render_table(rows)}\n\nfrom {fit.n} points; {_say_left_out(fit.left_out)}")
    print_warnings(notices, [])
    return DONE


def _compare_approaches(options: argparse.Namespace) -> int:
    from analysis.decisions.approaches import compare_approaches
    from analysis.decisions.conventions import compare_conventions

    if asked := _name_given(options, OF_FITS):
        raise InputError(
            f"{asked}: of a saved fit alone; write one with scaling fit {options.source} --law chinchilla --to FIT.json"
        )
    frame = read_source(options)
    if options.label is not None:
        check_label(frame, "--label", options.label)
        frame = frame[frame["label"] == options.label]
    target, law = options.target or declared_study(options.source)["metric"], options.law or "chinchilla"
    approaches = compare_approaches(
        frame, flops=options.flops, law=law, target=target, budget=options.budget, price_per_chip_hour=options.price,
        peak_flops=options.peak_flops, mfu=options.mfu,
    )  # fmt: skip
    conventions, missing = None, dict(approaches.missing)
    if any(map(is_part, frame.columns)):
        try:
            conventions = compare_conventions(frame, law=law, target=target)
        except AnalysisError as error:
            missing["conventions"] = str(error)
    if options.json:
        print_json(clean(_document(approaches, conventions, missing)))
        return DONE
    print(approaches.summarise())
    if conventions:
        print(f"\nthe exponent of N* under every way of counting N and C\n{conventions.summarise()}")
    elif "conventions" in missing:
        print(f"ways of counting N and C: not possible here: {missing['conventions']}")
    print_warnings([*approaches.warnings, *(conventions.warnings if conventions else ())], [])
    return DONE


def _document(approaches: "Approaches", conventions: "ConventionSpread | None", missing: dict[str, str]) -> Json:
    """Returns everything as JSON, each notice with the approaches or the counts of N that it is of."""
    told = [{"approaches": list(names), **notice.model_dump()} for names, notice in approaches.told]
    if conventions:
        told += [{"conventions": list(names), **notice.model_dump()} for names, notice in conventions.told]
    rows = approaches.to_frame().reset_index().to_dict("records")
    for row, item in zip(rows, approaches.found, strict=True):
        row["warnings"] = [notice.model_dump() for notice in item.notices]
    return {
        "flops": approaches.flops,
        "cost": dict(approaches.cost),
        "n": approaches.n,
        "left_out": dict(approaches.left_out),
        "approaches": rows,
        "missing": missing,
        "disagreement": {"exponent": approaches.exponent_gap, "num_params": approaches.size_ratio},
        "isoflops": {name: list(map(_describe_budget, valleys)) for name, valleys in approaches.valleys.items()},
        "conventions": conventions and conventions.rows.to_dict("records"),
        "warnings": told,
    }


def _describe_budget(valley: "Valley") -> Json:
    return {
        "train_flops": valley.train_flops,
        "sizes": len(valley.sizes),
        "runs": int(valley.runs.sum()),
        "spread": valley.spread,
        "moved": valley.is_moved,
        "num_params": valley.num_params and valley.num_params.model_dump(),
        "bracket": valley.bracket,
        "code": valley.skip and valley.skip.code,
        "reason": valley.skip and str(valley.skip),
    }


def _name_given(options: argparse.Namespace, names: Sequence[str]) -> str:
    given = [name for name in names if getattr(options, name) not in (None, [], ())]
    return ", ".join(f"--{name.replace('_', '-')}" for name in given)


def _say_left_out(left_out: Mapping[str, int]) -> str:
    return "left out: " + (", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "nothing")
