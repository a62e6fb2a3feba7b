"""What commands print: tables as plain text for a terminal, documents as JSON for programs; and numbers as typed."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.specs.counts import HOW, parse_count, parse_number


def render_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as aligned text columns under their names; numbers to the right, None as a hyphen.

    >>> print(render_table([{"m": 100, "error": 0.25}, {"m": 20000, "error": None}]))
        m  error
      100   0.25
    20000      -
    """
    if not rows:
        return "(nothing)"
    names = list(rows[0])
    body = [[format_value(row.get(name)) for name in names] for row in rows]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    widths = [max(len(line[i]) for line in [names, *body]) for i in range(len(names))]
    lines = []
    for line in [names, *body]:
        cells = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def format_value(value: Any) -> str:
    """Returns a value as a person would write it: four significant digits, integers whole.

    >>> format_value(1234567.0), format_value(0.123456), format_value(3)
    ('1.235e+06', '0.1235', '3')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def print_json(document: Any) -> None:
    """Prints one JSON document on standard output; what is not finite was made null before."""
    print(json.dumps(document, indent=1, allow_nan=False))


def count(text: str) -> int:
    """Returns the whole number that an option was given, for argparse."""
    found = parse_count(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; {HOW}")
    return found


def number(text: str) -> float:
    """Returns the number that an option was given, for argparse."""
    found = parse_number(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write it like 7e9 or 1.5B")
    return found
