"""`scaling models`: what a family, or a published network, looks like at a size."""

import argparse

from launch.commands.arguments import add_json
from launch.exits import DONE, WORK_FAILED
from launch.text import print_json, render_table
from scaling.specs.base import InputError, Json
from scaling.specs.counts import HOW, parse_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--family",
        metavar="NAME",
        help="mlp, convnet, resnet, transformer, vit, lstm, …, or name:make of your own code, with --study FILE",
    )
    parser.add_argument("--params", metavar="N", help="size asked for: 10M, 1.5B, 300k")
    parser.add_argument("--preset", metavar="NAME", help="a published network: resnet50, gpt2, vit_b16, …")
    parser.add_argument(
        "--set", action="append", default=[], dest="assignments", metavar="PATH=VALUE",
        help="change model (model.depth=4), task (task.vocab_size=50257) or count (flops.attention=causal); repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--coordinate-check", action="store_true",
        help="train the family for a few steps at growing widths and depths: do activations keep their size?",
    )  # fmt: skip
    parser.add_argument("--out", metavar="FILE", help="the check's figure; default coordinate-check-NAME.svg")
    add_json(parser)


def command(options: argparse.Namespace) -> int:
    """Shows a model family at a size, or a published network: shape, parameters and FLOPs."""
    from scaling.models.description import describe_family, describe_preset, list_networks
    from scaling.models.registry import FAMILIES

    if options.coordinate_check:
        return _check_coordinates(options)
    if options.out:
        raise InputError(f"--out {options.out}: is for the figure of --coordinate-check; add that, or leave --out out")
    if options.preset and (options.family or options.params):
        raise InputError("--preset names a network of its own; leave --family and --params out")
    if options.preset:
        found = describe_preset(options.preset, options.assignments)
    elif options.family and (options.params or options.assignments or options.family not in (*FAMILIES, "classical")):
        size = _parse_size(options.params) if options.params else None
        found = describe_family(options.family, size, options.assignments)
    else:
        if options.params:
            raise InputError(f"--params {options.params}: of which family? add --family, for example --family mlp")
        rows = list_networks(options.family)
        if options.json:
            print_json(rows)
        else:
            print(render_table(rows) + "\n\nAny size of a family: scaling models --family transformer --params 10M")
        return DONE
    if options.json:
        print_json(found)
    else:
        print(render_description(found))
    return DONE


def _check_coordinates(options: argparse.Namespace) -> int:
    """Prints whether activations and their changes keep their size as a family grows; 1 where muP or CompleteP fail."""
    if not options.family or options.preset or options.params:
        raise InputError("--coordinate-check is of a family at small sizes of its own; give --family NAME alone")
    from launch.commands.coordinates import check_family, draw_check, render_check, transfers

    rows, verdicts = check_family(options.family, options.assignments)
    path = options.out or f"coordinate-check-{options.family.replace(':', '-')}.svg"
    draw_check(options.family, rows, verdicts, path)
    if options.json:
        print_json({"family": options.family, "figure": path, "verdicts": verdicts})
    else:
        print(render_check(verdicts) + f"\n\nfigure: {path}")
    return DONE if transfers(verdicts) else WORK_FAILED


def _parse_size(text: str) -> int:
    count = parse_count(text)
    if count is None or count < 1:
        raise InputError(f"--params {text}: is no count; {HOW}")
    return count


def render_description(found: Json) -> str:
    """Returns a description as text for a terminal."""
    name = f"{found['preset']} ({found['family']})" if found["preset"] else found["family"]
    if found["num_params"] is None:
        return f"{name}: its size follows from the data that it is fitted to; the record of a cell holds it"
    counts, request, flops = found["num_params"], found["request"], found["flops"]
    lines = [f"{name}: {counts['total']:,} parameters"]
    if request is not None:
        miss = request["miss"]
        side = "exactly as" if miss == 0 else f"{abs(miss):.2%} {'above' if miss > 0 else 'below'} the"
        lines.append(f"{side} {request['num_params']:,} asked for, counted as {request['convention']}")
    lines += ["", _render_fields(found["shape"]), "", _render_fields(found["task"]), ""]
    groups = {group: count for group, count in counts.items() if group != "total"}
    shares = [
        {"group": group, "parameters": f"{count:,}", "share": f"{count / counts['total']:.1%}"}
        for group, count in groups.items()
    ]
    lines.append(render_table(shares))
    if flops is None:
        return "\n".join(lines)
    others = {key: count for key, count in found["num_params_by_convention"].items() if key != "total"}
    lines.append("\n" + " · ".join(f"{key} {count:,}" for key, count in others.items()))
    terms = [
        {"term": term, "forward": forward, "train": flops["train_terms"][term]}
        for term, forward in flops["terms"].items()
    ]
    total = {"term": "total", "forward": flops["forward"], "train": flops["train"]}
    lines.append(f"\nFLOPs {flops['unit']}\n" + render_table([*terms, total]))
    extra = f" · with recomputation {flops['hardware']:.4g}" if flops["convention"]["remat"] else ""
    lines.append(f"\n6N = {flops['six_n']:.4g}, {flops['six_n'] / flops['train']:.3f} of the training FLOPs{extra}")
    if found.get("arrays"):
        lines.append(
            "\nWhat each array is taken for (guessed, unless the code says it)\n" + render_table(found["arrays"])
        )
    if found.get("not_counted"):
        lines.append(f"\nNot counted: {', '.join(found['not_counted'])}")
    lines.append("counted: " + ", ".join(f"{key} {value}" for key, value in flops["convention"].items()))
    return "\n".join(lines)


def _render_fields(fields: Json) -> str:
    """Returns fields on one line, without those that are off."""
    return " · ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, "", 0, False, "none"))
