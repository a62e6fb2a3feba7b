"""Which of their columns are likely ours, by name, unit and values: of trackers' runs and of anybody's table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.tables.expressions import SECTIONS, Expression, Factor, quote
from analysis.tables.numbers import Kind, read_column, read_count, read_number, read_plain
from analysis.tables.states import find_state_column
from analysis.tables.units import find_unit
from scaling.store.columns import CONTRACT

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = r"(eval|evaluation|valid|validation|val|test|held_out|dev)"
LOSS = r"(loss|nll|cross_entropy)(_epoch)?"
BITS = r"(bpb|bits_per_byte)"
# Patterns for a name, or its end behind the last `.` or `/`, most likely first, after words were parted, other signs
# became _ and letters small.
PATTERNS: dict[str, tuple[str, ...]] = {
    "loss": (rf"(.*_)?{HELD_OUT}_(.*_)?{LOSS}", rf"(loss|nll)_(.*_)?{HELD_OUT}(_.*)?",
             rf"(.*_)?{HELD_OUT}_(.*_)?{BITS}", rf"(.*_)?{LOSS}", rf"(.*_)?{BITS}"),
    "num_params": (r"(non_embedding_|total_|model_)?(n|num|number_of|no_of)_?(model_|total_)?(non_embedding_)?"
                   r"param(eter)?s?(_.*)?",
                   r"(.*_)?param(eter)?s?(_count|_total)?", r"model_size"),
    "data_seen": (r"(.*_)?(tokens|examples|samples)_(seen|processed|consumed|so_far|trained)",
                  r"(seen|processed|consumed)_(train_)?(tokens|examples|samples)",
                  r"(n|num|number_of|total|train|training)_(train_|training_)?(tokens|examples|samples)", r"tokens",
                  r"(.*_)?tokens", r"(.*_)?(data|dataset)_size"),
    "train_flops": (r"(.*_)?(train|training|total)_(.*_)?(flops?|flos)", r"flops?", r"(.*_)?compute(_budget|_flops?)?"),
    "seed": (r"(random_|rng_)?seed",),
    "peak_lr": (r"(peak|max|base)_(lr|learning_rate)", r"((optim|optimizer|training|adamw?)_)?(lr|learning_rate)"),
    "batch_size": (r"(global|total|train)_batch_size", r"(.*_)?batch_size"),
    "family": (r"(.*_)?(family|architecture|arch|model_type)",),
    "label": (r"group", r"(.*_)?(experiment|series|sweep)"),
    "wall_seconds": (r"runtime", r"train_runtime", r"(.*_)?(wall|elapsed)_(time|seconds)"),
    "step": (r"(train_|trainer_)?global_step", r"(train_)?(step|iter|iteration)s?"),
    "data_unique": (r"(.*_)?unique_(tokens|examples|samples)", r"(train_)?(data|dataset)_size"),
}  # fmt: skip
# What a name like ours says besides: a part, a speed, a limit, a statistic, or another quantity.
REFUSED: dict[str, str] = {
    "loss": r"aux|auxiliary|moe|lb|z|router|routing|balanc\w*|load|scale|grad\w*|penalty|reg|regulari\w*|l1|l2|kl|ppl|"
            r"perplexity|std|stderr|var|variance|delta|diff|spikes?|threshold|weights?|coef\w*|per_(?!byte)\w+|ema|lr",
    "num_params": r"per|head|(?<!non_)embed\w*|wte|wpe|matri\w*|scalars?|norms?|bias|layers?|fraction|ratio|dtype|"
                  r"hyper|lora|adapter|frozen|experts?|groups?|grads?|convention|vocab|batch|file|sharding",
    "data_seen": r"per|sec|second|speed|batch|eval|val|valid|validation|test|vocab|max|limit|new|device|gpu|length|len|"
                 r"target|budget_only|unique|padding|pad",
    "train_flops": r"per|sec|second|device|gpu|peak|promised|theoretical|hardware|utili\w*|mfu|log|log10|inference|"
                   r"forward|spent|dtype|type",
    "seed": r"eval|val|test",
    "peak_lr": r"min|final|end|current|decay|warmup|init|initial|group\d*|scale|mult\w*|embed\w*",
    "batch_size": r"per|micro|device|gpu|mini|local|eval|val|valid|validation|test|auto|find|min|max",
    "wall_seconds": r"eval|val|test|predict",
    "step": r"per|max|num|warmup|total|eval|save|log|accumulation",
    "data_unique": r"eval|val|test|valid|validation",
}  # fmt: skip
SYMBOLS = {"num_params": "N", "data_seen": "D", "train_flops": "C", "loss": "L"}
TEXT_COLUMNS = ("study", "family", "label", "status", "trunk", "data_unit", "device_kind")
COUNTS = ("num_params", "data_seen", "data_unique", "train_flops", "batch_size", "step", "seed")
# More than these is no count in a unit of millions or more, whatever the header says: the values are whole already.
LARGEST = {"num_params": 1e13, "data_seen": 1e14, "data_unique": 1e14, "train_flops": 1e28}
WHOLE = 1e6
NUM_LOOKED_AT = 20
# Of a chart that was exported, a column a run; and of a file whose columns were not parted.
NO_COLUMN = re.compile(r".* - .*|.*[;\t|].*", re.DOTALL)


class Proposal(NamedTuple):
    """An expression for a column of ours, and a sentence where something of it is doubtful."""

    column: str
    expression: str
    doubt: str | None = None

    def option(self) -> str:
        """Returns the option to paste into a shell."""
        return f"--column {shlex.quote(f'{self.column}={self.expression}')}"


def propose_columns(
    names: Mapping[str, Sequence[Any]],
    counts: Mapping[str, int] | None = None,
    sections: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[str]]:
    """Returns for each column of ours the names that are likely it, the likeliest first.

    A name that is ours to the letter comes first, then names that more runs have, then by `PATTERNS`.

    Args:
      names: examples of the values by name.
      counts: how many runs have each.
      sections: what may stand before names, by column of ours: `config`, `history`, ...; by default anything.

    >>> found = propose_columns({"Parameters (M)": [70.0], "train/loss": [3.0], "eval/CE loss": [3.1]})
    >>> found["num_params"], found["loss"]
    (['Parameters (M)'], ['eval/CE loss', 'train/loss'])
    """
    found = {
        ours: rank_names(ours, names, counts or {}, (sections or {}).get(ours))
        for ours in dict.fromkeys([*PATTERNS, *CONTRACT])
    }
    return {ours: ranked for ours, ranked in found.items() if ranked}


def rank_names(
    ours: str, names: Mapping[str, Sequence[Any]], counts: Mapping[str, int], sections: Sequence[str] | None = None
) -> list[str]:
    """Returns the names that are likely a column of ours; see `propose_columns`."""
    found = []
    bare = {_split(full)[1].strip() for full in names}
    speaks_symbols = len(bare & set(SYMBOLS.values())) > 1  # whose `D` is D, and other names something beside it
    for full, values in names.items():
        section, name = _split(full)
        rank = 0 if speaks_symbols and name.strip() == SYMBOLS.get(ours) else _rank(ours, name)
        if rank is None or not values or (sections is not None and section not in sections):
            continue
        if ours not in TEXT_COLUMNS and not all(map(_is_number, values)):
            continue
        if ours == "peak_lr" and rank >= 0 and (section == "history" or f"history.{name}" in names):
            continue  # a schedule's value of the moment, which the tracker shows among the results too
        rank = -1 if ours == "loss" and name == "eval/loss" and f"{section}.data_seen" in names else rank
        if rank < 0 and ours == "loss" and f"{section}.data_seen".lstrip(".") not in names:
            rank = len(PATTERNS)  # the plain word is most often the training loss
        place = 0 if sections is None else list(sections).index(section)
        found.append((rank >= 0, -counts.get(full, 0), rank, place, len(name), full))
    return [full for *_, full in sorted(found)]


def render_values(name: str, values: Iterable[Any], ours: str, *, is_table: bool = False) -> Proposal:
    """Returns how a column of theirs becomes ours: as it is, as a count or a number, times the unit of its header.

    Args:
      name: theirs.
      values: all, or some of them.
      ours: our name.
      is_table: whether text that reads as a number needs a function, and names are put into backquotes in products.

    >>> render_values("Parameters (b)", [0.07, 1.4], "num_params", is_table=True).expression
    '`Parameters (b)`*1e9'
    >>> render_values("Parameters (b)", [7e7], "num_params").doubt
    "'Parameters (b)' holds 7e+07, which is no number of 1e9s; it is taken as it stands"
    >>> render_values("size", ["70M", "1.4B"], "num_params").expression
    'count(size)'
    """
    if ours in TEXT_COLUMNS:
        return Proposal(ours, _write(name, None, None, is_table))
    values = list(values)
    texts = [value for value in values if isinstance(value, str)]
    function, doubt = None, None
    if any(read_plain(text) is None for text in texts) or (is_table and texts):
        kinds: tuple[Kind, Kind] = ("count", "number") if ours in COUNTS else ("number", "count")
        read = {kind: read_column(values, kind=kind) for kind in kinds}
        kind = min(kinds, key=lambda kind: int(read[kind].bad.sum()))
        function, numbers, is_bad = kind, read[kind].values, read[kind].bad
        if is_bad.any():
            first = str(next(value for value, bad in zip(values, is_bad, strict=True) if bad))[:40]
            doubt = f"{name.strip()!r} holds {int(is_bad.sum())} values such as {first!r}, which are no numbers"
    else:
        numbers = read_column(values, kind="number").values
    factor = None
    if (unit := find_unit(name)) is not None and unit.scale != "1":
        if any(read_plain(text) is None and _has_own_unit(text) for text in texts):
            doubt = doubt or f"{name.strip()!r} holds values with units of their own, so {unit.text!r} is left alone"
        elif _agrees(numbers, float(unit.scale), ours):
            factor = unit.scale
        else:
            largest = float(np.nanmax(np.abs(numbers))) if np.isfinite(numbers).any() else np.nan
            doubt = (
                f"{name.strip()!r} holds {largest:.3g}, which is no number of {unit.scale}s; it is taken as it stands"
            )
    return Proposal(ours, _write(name, function, factor, is_table), doubt)


def propose_for_table(frame: pd.DataFrame, needed: Iterable[str]) -> list[str]:
    """Returns options to paste for the columns that are needed and that a table has under other names.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"Parameters (b)": [0.07, 1.4], "val loss ": [4.2, 3.1], "State": ["finished", "crashed"]})
    >>> for option in propose_for_table(table, ["num_params", "loss"]):
    ...     print(option)
    --column 'num_params=`Parameters (b)`*1e9'
    --column 'loss=val loss'
    --column status=State
    """
    return [one.option() for one in propose_table(frame, needed)]


def propose_table(frame: pd.DataFrame, needed: Iterable[str]) -> list[Proposal]:
    """Returns the likely expression of each column that is needed and missing, with what is doubtful; see above."""
    headers = [name for name in frame.columns if isinstance(name, str)]
    examples = {
        name: frame[name].dropna().head(NUM_LOOKED_AT).tolist()
        for name in headers
        if name not in CONTRACT and headers.count(name) == 1 and not NO_COLUMN.fullmatch(name)
    }
    found = []
    for ours in dict.fromkeys(needed):
        if ours in frame.columns or ours == "status":
            continue
        ranked = rank_names(ours, examples, {})
        if ranked:
            found.append(render_values(ranked[0], frame[ranked[0]], ours, is_table=True))
    if "status" not in frame.columns and (state := find_state_column(frame)) is not None:
        found.append(Proposal("status", _write(state, None, None, is_table=True)))
    return found


def _split(full: str) -> tuple[str, str]:
    """Returns the section of a name, where it has one, and the rest."""
    section, dot, name = full.partition(".")
    return (section, name) if dot and section in SECTIONS else ("", full)


def _rank(ours: str, name: str) -> int | None:
    """Returns the place among the patterns of the one that a name matches; -1 where it is ours, None without any."""
    if name.strip() == ours:
        return -1
    unit = find_unit(name)
    bare = (name if unit is None else unit.name).removesuffix(",none")  # a filter of lm-evaluation-harness
    bare = re.sub(r"[ ,_(\[]+(in )?nats?[)\] ]*$|[ ,(\[]*(mean )?(±|\+/?-).*$", "", bare)
    plain = _plain(bare)
    if ours == "step" and name == "_step":
        return len(PATTERNS)  # the tracker's own count, of what was logged
    if plain == ours:
        return 0
    is_refused = ours in REFUSED and re.search(rf"(?:^|_)(?:{REFUSED[ours]})(?:_|$)", plain)
    if is_refused or (ours == "peak_lr" and "/" in name):
        return None
    if ours == "loss" and re.search(r"(?:^|_)total_loss$", plain):
        return None  # over a batch, or with terms beside the one that is compared
    leaves = (plain, _plain(bare.rpartition(".")[2]), _plain(re.split(r"[./]", bare)[-1]))
    patterns = PATTERNS.get(ours, ())
    found = [i for i, pattern in enumerate(patterns) if any(re.fullmatch(pattern, leaf) for leaf in leaves)]
    if found:
        return found[0]
    if ours == "num_params" and plain == "size" and (unit is None or float(unit.scale) >= WHOLE):
        return len(patterns)
    return len(patterns) if bare.strip() == SYMBOLS.get(ours) else None


def _plain(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | np.bool_):
        return False
    return read_count(value) is not None or read_number(value) is not None


def _has_own_unit(text: str) -> bool:
    """Returns whether a text says more than digits: a letter for its scale, or a per cent sign."""
    return "%" in text or (read_number(text) is None and read_count(text) is not None)


def _agrees(numbers: NDArray[np.float64], scale: float, ours: str) -> bool:
    """Returns whether values can be in the unit that their header names."""
    sizes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
    if not len(sizes):
        return True
    if scale < 1:  # shares in per cent, all of which are not below 1 %
        return bool(sizes.max() > 1)
    is_whole = ours in ("num_params", "data_seen", "data_unique") and scale >= 1e3 and float(np.median(sizes)) >= WHOLE
    return not is_whole and float(sizes.max()) * scale <= LARGEST.get(ours, np.inf)


def _write(name: str, function: Kind | None, scale: str | None, is_table: bool) -> str:
    """Returns the text of an expression that reads a column."""
    first = Factor(kind="name", value=name, function=function)
    if not is_table:
        factors = (first,) if scale is None else (first, Factor(kind="number", value=scale))
        return Expression(factors=factors).render()
    stripped = name.strip()
    if function is None and scale is None:
        return Expression(factors=(first.model_copy(update={"value": stripped}),)).render()
    text = quote(stripped)
    return (f"{function}({text})" if function else text) + (f"*{scale}" if scale else "")
