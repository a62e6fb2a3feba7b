"""`scaling optimum`: the compute-optimal size and data, of a saved fit or by three approaches to a table."""

import argparse

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
from scaling.specs.base import InputError
from scaling.store.columns import is_part

OF_FITS = ("loss", "inference_tokens", "unique_data", "peak_flops", "mfu")  # what only a saved fit can answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_source(parser, metavar="FIT.json|STORE|FILE", help="a fit of a law of num_params and data_seen, or a table")
    parser.add_argument("--flops", type=number, metavar="C", help="the budget; default of a table its largest")
    parser.add_argument("--loss", type=float, metavar="L", help="instead of a budget: the loss to reach")
    parser.add_argument(
        "--inference-tokens", type=number, default=0.0, metavar="T", help="tokens it will serve, at 2 N each"
    )
    parser.add_argument(
        "--unique-data", type=number, metavar="U", help="distinct tokens there are; more means repeating"
    )
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="of a chip-hour; with the next two")
    parser.add_argument("--peak-flops", type=number, metavar="F", help="FLOP/s of a chip")
    parser.add_argument("--mfu", type=float, metavar="SHARE", help="share of the peak that is reached, 0.4 say")
    parser.add_argument("--label", help="which series, where the file holds several")
    parser.add_argument("--law", metavar="NAME", help="of a table; default chinchilla")
    parser.add_argument("--target", metavar="COLUMN", help="of a table; default the study's metric, else loss")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Prints the compute-optimal size and data, with 95 % intervals: of a saved fit, or by three approaches to a table.

    A saved fit answers at a budget or for a loss. A table is read by its envelope, by isoFLOP profiles and by a law,
    beside each other; where it says how N and C were counted, the law is fitted under every way of counting.
    """
    from analysis.decisions.optimum import find_optimum
    from analysis.fitting.fit import choose_fit, load_fits

    if not options.source.endswith(".json"):
        return _compare_approaches(options)
    fit = choose_fit(load_fits(options.source), options.label)
    optimum = find_optimum(
        fit, flops=options.flops, price_per_chip_hour=options.price,
        **{name: getattr(options, name) for name in OF_FITS},
    )  # fmt: skip
    if options.json:
        print_json(optimum.model_dump(mode="json"))
    else:
        rows = [
            {"": name, "optimum": item.value, "95 %": show_interval(item.low, item.high)}
            for name, item in optimum.quantities.items()
        ]
        print(f"{fit.form.formula}\n\n{render_table(rows)}")
        print_warnings([*optimum.warnings, *fit.warnings], [])
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
        check_label(frame, "--label", options.label)
        frame = frame[frame["label"] == options.label]
    target, law = options.target or declared_study(options.source)["metric"], options.law or "chinchilla"
    approaches = compare_approaches(frame, flops=options.flops, law=law, target=target)
    counted = any(map(is_part, frame.columns))
    conventions = compare_conventions(frame, law=law, target=target) if counted else None
    if options.json:
        document = {
            "flops": approaches.flops,
            "approaches": approaches.to_frame().reset_index().to_dict("records"),
            "missing": dict(approaches.missing),
            "disagreement": {"exponent": approaches.exponent_gap, "num_params": approaches.size_ratio},
            "conventions": conventions and conventions.rows.to_dict("records"),
            "warnings": [
                notice.model_dump() for notice in (*approaches.warnings, *(conventions.warnings if conventions else ()))
            ],
        }
        print_json(clean(document))
    else:
        print(approaches)
        if conventions:
            print(f"\nthe exponent of N* under every way of counting N and C\n{conventions}")
    return DONE
