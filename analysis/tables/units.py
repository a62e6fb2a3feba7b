"""Units of counts: those that a header names, and those that are missing where C is not near 6 N D."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.tables.numbers import FLOP_POWERS, POWERS, RAISED, SIGNS, read_column, show_number
from analysis.tables.provenance import name_row
from scaling.store.columns import TERM, TRAINING_FLOPS

if TYPE_CHECKING:
    import pandas as pd

PARAMS = r"(?:(?<![a-z])n?[_# ]*params?|parameters?|model[ _-]?size|^size$)"
DATA = r"(?:tokens?|examples|samples|data[ _]?(?:seen|size)|dataset[ _]size)"
COMPUTE = r"(?:flops?|flos|compute)"
# Beside these alone a single letter is a scale: `Time (m)` is in minutes.
QUANTITY = re.compile(rf"{PARAMS}|{DATA}|{COMPUTE}", re.IGNORECASE)
SYMBOL = re.compile(r"(?:.*[./])?[NDC]")
# Counts of a part and speeds, whose letters are mostly symbols: `Batch size (B)`, `Steps (T)`.
PARTIAL = re.compile(r"(?<![a-z])per(?![a-z])|batch|second|sequence|/ ?s\b|steps?(?![a-z])|vocab|speed|peak", re.I)

LETTERS = {letter: power for letter, power in FLOP_POWERS.items() if letter}
PREFIXES = {
    **LETTERS, "kilo": 3, "mega": 6, "giga": 9, "tera": 12, "peta": 15, "exa": 18, "zetta": 21, "yotta": 24
}  # fmt: skip
LONG_PREFIX = "|".join(name for name in PREFIXES if len(name) > 1)
PREFIX = rf"(?:{LONG_PREFIX}|[kmgtpezy])"
FLOPS = rf"(?<![a-z])(?P<prefix>{PREFIX})?-?(?:(?<=[ao])[ _])?flops?(?![a-z])"
SECONDS = {"day": "8.64e{}", "hour": "3.6e{}"}
FLOP_TIME = (
    rf"(?<![a-z])(?P<prefix>{PREFIX})[ _-]?(?:flops?|f)(?: ?/ ?s(?:ec)?|[ _]?s)?[ _-]*(?P<time>day|hour)s?(?![a-z])"
)
RAISED_TEN = r"10(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,2})"
TEN = rf"(?:[x*] ?)?(?:1(?:\.0)? ?e ?\+?(?P<typed>\d{{1,2}})|10(?:\^|\*\*)(?P<power>\d{{1,2}})|{RAISED_TEN})"
WORD = rf"(?P<word>{'|'.join(sorted(POWERS, key=len, reverse=True))}|[pez])"
UNIT = re.compile(rf"(?:{TEN}|{WORD})?[ _-]*(?:of )?(?P<thing>{PARAMS}|{DATA}|{FLOPS})?", re.IGNORECASE)
PER_CENT = re.compile(r"%|pct\.?|per[ _]?cent|percentage", re.IGNORECASE)

WRAPPED = re.compile(r"(.*?)[ _]*[(\[{] ?([^()\[\]{}]*?) ?[)\]}][ _]*")
IN = re.compile(r"(.*[^ _])[ _]+in[ _]+(.+)", re.IGNORECASE)
MARKED = re.compile(r"(.*[^ ,/]) ?([,/]) ?([^,/]+)")
LAST = re.compile(r"(.*?[^ _])(?:[ _]+|(?=%))([x*] ?[^ _]+|[^ _]+)")
FIRST = re.compile(
    r"(thousands?|millions?|billions?|trillions?|bn|[MBT])[ _-]?(?:of[ _])?(#?(?:param(?:eter)?s?|tokens?|examples))",
    re.IGNORECASE,
)
ENDS_IN_QUANTITY = re.compile(
    rf".*(?:{QUANTITY.pattern})(?:[ _](?:seen|trained|processed|consumed|used))?", re.IGNORECASE
)

Style = Literal["wrapped", "slash", "last"]
SMALL = 1e5  # counts below it, with fractions, are in another unit
FEW, MANY, MOST_POSITIONS = 1e-3, 1e4, 1e6  # C / 6 N D, beyond which units differ; the last where D is in examples
PF_DAYS = "8.64e19"
SCALES = {
    "num_params": ("1", "1e3", "1e6", "1e9"),
    "data_seen": ("1", "1e3", "1e6", "1e9", "1e12"),
    "train_flops": ("1", "1e9", "1e12", "1e15", "1e18", "1e21", PF_DAYS),
}
RANGES = {"num_params": (1e2, 1e14), "data_seen": (1e2, 1e17)}
USUAL_DATA = 20.0  # tokens a parameter, of a model that is trained for its size (Hoffmann et al. 2022)


class Unit(NamedTuple):
    """A unit that a header names: the header without it, the decimal number that it stands for, and its own text."""

    name: str
    scale: str
    text: str


def find_unit(header: str) -> Unit | None:
    """Returns the unit in a column's header, None where there is none beyond doubt.

    >>> find_unit("Parameters (b)"), find_unit("tokens in billions")
    (Unit(name='Parameters', scale='1e9', text='b'), Unit(name='tokens', scale='1e9', text='billions'))
    >>> find_unit("Compute [PF-days]").scale, find_unit("total_GFLOPs"), find_unit("Accuracy, %").scale
    ('8.64e19', Unit(name='total_FLOPs', scale='1e9', text='GFLOPs'), '0.01')
    >>> find_unit("Compute (x10²¹ FLOPs)").scale, find_unit("params_M").scale, find_unit("N (M)").scale
    ('1e21', '1e6', '1e6')
    >>> [find_unit(name) for name in ("data_seen", "Model Size", "T", "Batch size (B)", "Time (m)", "loss 1e18")]
    [None, None, None, None, None, None]
    """
    text = " ".join(header.translate(SIGNS).split())
    for pattern in (WRAPPED, IN, MARKED, LAST):
        if not (match := pattern.fullmatch(text)) or not match[1].strip(" _"):
            continue
        name, unit = match[1], match[match.lastindex or 2]
        style: Style = "slash" if match.lastindex == 3 and match[2] == "/" else "last" if pattern is LAST else "wrapped"
        if (scale := _read_unit(unit, name, style)) is not None:
            return Unit(name, scale, unit)
    if (match := FIRST.match(text)) and (len(match[1]) > 1 or match[1].isupper()) and not PARTIAL.search(text):
        return Unit(text[match.start(2) :], f"1e{POWERS[match[1].lower()]}", match[1])
    return _find_flops(text)


def _find_flops(text: str) -> Unit | None:
    """Returns the unit where FLOPs with a prefix are part of the name; `TFLOPS` alone is a speed."""
    for pattern in (FLOP_TIME, FLOPS):
        match = re.search(pattern, text, re.IGNORECASE)
        if match is None or not match["prefix"] or (pattern is FLOPS and PARTIAL.search(text)):
            continue
        if match[0].endswith("FLOPS") and not re.search(r"train|total|compute", text, re.IGNORECASE):
            continue
        rest = text[: match.start()].rstrip(" _-") + text[match.end() :]
        is_named = re.search(COMPUTE, rest, re.IGNORECASE) is not None
        name = rest if is_named else text[: match.start()] + "FLOPs" + text[match.end() :]
        return Unit(name, _scale_of(match.groupdict(), 0), match[0])
    return None


def _read_unit(unit: str, name: str, style: Style) -> str | None:
    """Returns the number that a unit stands for behind the rest of a header; None where it is no unit there."""
    if PER_CENT.fullmatch(unit):
        return "0.01"
    if match := re.fullmatch(FLOP_TIME, unit, re.IGNORECASE):
        return _scale_of(match.groupdict(), 0)
    first, comma, second = unit.removeprefix("in ").partition(",")  # `FLOPs, 1e18`
    match = UNIT.fullmatch(f"{second.strip()} {first}" if comma else first) if unit else None
    if match is None:
        return None
    found = match.groupdict()
    word, thing = found["word"] or "", found["thing"] or ""
    exponent = found["typed"] or found["power"] or (found["raised"] or "").translate(RAISED)
    is_flops = thing.lower().rstrip("s").endswith("flop")
    if style != "wrapped":
        where = SYMBOL.fullmatch(name) or ENDS_IN_QUANTITY.fullmatch(name)
        is_letter = len(word) == 1
        is_unclear = is_letter and (
            (style == "slash" and not word.isupper()) or (SYMBOL.fullmatch(name) is not None and not word.isupper())
        )
        # What follows `flops_` is a term of them.
        is_term = is_letter and re.search(rf"{COMPUTE}$", name, re.IGNORECASE) is not None
        if where is None or thing or is_unclear or is_term:
            return None
    if not (word or exponent):
        return _scale_of(found, 0) if is_flops else None
    counts = thing or QUANTITY.search(name) or SYMBOL.fullmatch(name)
    is_word = len(word) > 2
    if not is_word and (not counts or PARTIAL.search(name)):
        return None
    if word.lower() in ("p", "e", "z") and not (is_flops or re.search(COMPUTE, name, re.IGNORECASE)):
        return None
    power = int(exponent) if exponent else {**LETTERS, **POWERS}[word.lower()]
    return _scale_of(found, power)


def _scale_of(found: Mapping[str, str | None], power: int) -> str:
    power += PREFIXES[(found.get("prefix") or "").lower()] if found.get("prefix") else 0
    if time := found.get("time"):
        return SECONDS[time.lower()].format(power + (4 if time.lower() == "day" else 3))
    return f"1e{power}" if power else "1"


def check_compute(table: pd.DataFrame, given: Mapping[str, str] | None = None) -> str | None:
    r"""Returns what is wrong with the units of C, N and D where C is far from 6 N D, with options to paste; else None.

    How C and N are counted differs honestly: embeddings, attention, experts that rest, and examples of many positions.
    Only what no way of counting explains is told, for a whole table or for some of its rows.

    Args:
      table: with `num_params`, `data_seen` and `train_flops`; without one of them nothing can be said.
      given: expressions by which columns came to be, so that the options go on from them.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"num_params": [70.0], "data_seen": [0.35], "train_flops": [1.47e17]})
    >>> said = check_compute(table)
    >>> print(said.replace("; ", ";\n"))
    C is 1e15 times 6 N D, so their units differ;
    they agree with --column 'num_params=num_params*1e6' --column 'data_seen=data_seen*1e9'
    """
    if not set(SCALES) <= set(table.columns) or _has_own_terms(table):
        return None
    N, D, C = (_numbers(table, name) for name in SCALES)
    usable = np.isfinite(N) & np.isfinite(D) & np.isfinite(C) & (N > 0) & (D > 0) & (C > 0)
    if not usable.any():
        return None
    N, D, C = N[usable], D[usable], C[usable]
    logs = np.log10(C) - math.log10(TRAINING_FLOPS) - np.log10(N) - np.log10(D)
    units = set(table["data_unit"].dropna().astype(str)) if "data_unit" in table.columns else set()
    low, high = math.log10(FEW), math.log10(MOST_POSITIONS if units == {"examples"} else MANY)
    middle = float(logs.mean())
    is_odd = (logs < low) | (logs > high)
    # Exactly a thousand times 6 N D in every row is no way of counting.
    is_exact = round(middle) in (-3, 3) and units != {"examples"} and bool((np.abs(logs - round(middle)) < 2e-3).all())
    if not is_exact and not is_odd.any():
        return None
    if 0 < is_odd.sum() < len(logs) and not is_exact and np.ptp(logs) > 2:
        row = name_row(table, int(np.flatnonzero(usable)[np.flatnonzero(is_odd)[0]]))
        times = show_number(float(f"{10 ** logs[is_odd][0]:.3g}"))
        rest = show_number(float(f"{10 ** float(np.median(logs[~is_odd])):.3g}"))
        return (
            f"C is {times} times 6 N D in {int(is_odd.sum())} of {len(logs)} rows, the first of them row {row}, and "
            f"{rest} times in the others, so their units differ, or some are wrong; correct them, or leave them out by "
            "--keep"
        )
    times = show_number(float(f"{10**middle:.3g}"))
    options = [_paste(scales, given or {}) for scales in _find_scales(N, D, middle)]
    agree = f"they agree with {', or with '.join(options)}" if options else "look at the three columns"
    return f"C is {times} times 6 N D, so their units differ; {agree}"


def doubt_counts(table: pd.DataFrame, given: Mapping[str, str] | None = None) -> str | None:
    """Returns which counts cannot be, since parts of a parameter or of an example cannot; None where all can.

    >>> import pandas as pd
    >>> doubt_counts(pd.DataFrame({"num_params": [0.07, 1.4], "data_seen": [1e9, 2e9]}))
    "num_params is 0.07 to 1.4, which cannot be a count; are they billions, --column 'num_params=num_params*1e9'?"
    """
    for name in RANGES:
        values = _numbers(table, name) if name in table.columns else np.array([])
        values = values[np.isfinite(values) & (values != 0)]
        if not len(values) or not _is_doubtful(values):
            continue
        scale = "1e9" if values.min() < 1 or values.max() < 1e3 else "1e6"
        word = {"1e9": "billions", "1e6": "millions"}[scale]
        low, high = (show_number(float(f"{end:.6g}")) for end in (values.min(), values.max()))
        option = _paste({name: scale}, given or {})
        return f"{name} is {low} to {high}, which cannot be a count; are they {word}, {option}?"
    return None


def _is_doubtful(values: NDArray[np.float64]) -> bool:
    has_parts = bool((values != np.rint(values)).any())
    return bool(((values > 0) & (values < 1)).any()) or (has_parts and bool((values < SMALL).all()))


def _numbers(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return read_column(table[name], kind="number").values


def _has_own_terms(table: pd.DataFrame) -> bool:
    """Returns whether C has its parts beside it, as in our own tables, whose accounting is known."""
    terms = [name for name in table.columns if str(name).startswith(TERM)]
    if not terms:
        return False
    total, parts = (
        _numbers(table, "train_flops"),
        np.sum([np.nan_to_num(_numbers(table, name)) for name in terms], axis=0),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share = parts / total
    share = share[np.isfinite(share) & (share > 0)]
    return len(share) > 0 and 0.5 < float(np.median(share)) < 1e3  # parts hold what C leaves out


def _find_scales(N: NDArray[np.float64], D: NDArray[np.float64], middle: float) -> list[dict[str, str]]:
    """Returns the likeliest units of N, D and C under which C is near 6 N D, the best first, at most two.

    Of those that agree as well, it is the one whose data are most like 20 a parameter, and whose models are not tiny.
    """
    found = []
    for n, d, c in itertools.product(*SCALES.values()):
        left = abs(middle + math.log10(float(c)) - math.log10(float(n)) - math.log10(float(d)))
        sizes = ((N * float(n), *RANGES["num_params"]), (D * float(d), *RANGES["data_seen"]))
        if left > 1.5 or any((size < low).any() or (size > high).any() for size, low, high in sizes):
            continue
        parts = sum(bool((np.abs(size - np.rint(size)) > 1e-6 * size).any()) for size, _, _ in sizes)
        each = abs(float(np.mean(np.log10(D * float(d)) - np.log10(N * float(n)))) - math.log10(USUAL_DATA))
        small = max(0.0, 6 - float(np.mean(np.log10(N * float(n)))))
        changed = sum(scale != "1" for scale in (n, d, c))
        scales = dict(zip(SCALES, (n, d, c), strict=True))
        found.append(
            (left + each / 2 + parts / 2 + small / 4 + changed / 10, {k: v for k, v in scales.items() if v != "1"})
        )
    found = [one for one in found if one[1]]
    found.sort(key=lambda one: one[0])
    return [scales for cost, scales in found[:2] if cost < found[0][0] + 0.3]


def _paste(scales: Mapping[str, str], given: Mapping[str, str]) -> str:
    return " ".join(f"--column {shlex.quote(f'{name}={given.get(name, name)}*{by}')}" for name, by in scales.items())
