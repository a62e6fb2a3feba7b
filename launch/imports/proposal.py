"""What raw runs offer for a mapping: their names with examples and counts, and likely ones for our columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.tables.expressions import read_expression
from analysis.tables.numbers import read_count
from analysis.tables.proposals import TEXT_COLUMNS, propose_columns, rank_names, render_values
from analysis.tables.states import COLUMNS, knows_all
from launch.imports.mapping import SET_BY_IMPORT, TableMapping, collect_names
from launch.imports.raw import RawFolder, RawRun
from scaling.specs.base import Json
from scaling.store.columns import CONTRACT, TABLE_COURSE

NUM_EXAMPLES = 3
NUM_OTHERS = 3
BY_ROW = ("loss", "data_seen", "train_flops")  # what changes within a run
NEEDED = ("loss", "num_params", "data_seen", "train_flops")  # a row without one of them is dropped; others may be empty
# Of a whole run, and so not of the rows of its history.
OF_THE_END = ("epochs", "train_flops_spent", *TABLE_COURSE)
SEQUENCE = r"(.*_)?(seq(uence)?_?len(gth)?|block_size|context_(size|length)|max_seq_len|max_length|ctx_len)"
ACCUMULATION = r"(.*_)?grad(ient)?_accum(ulation)?(_steps)?"
TOKENS = 2**16  # a batch of so many is counted in tokens


def list_names(folder: RawFolder, runs: Sequence[RawRun]) -> list[Json]:
    """Returns one row per full name: how many runs have it, how many values in histories, and examples."""
    counts = collect_names(runs)
    values: dict[str, int] = {}
    examples: dict[str, list[Any]] = {name: [] for name in counts}
    for run in runs:
        for name, count in run.history_columns.items():
            values[f"history.{name}"] = values.get(f"history.{name}", 0) + count
        for name, value in run.scalars().items():
            shown = examples.get(name, [])
            if value is not None and value not in shown and len(shown) < NUM_EXAMPLES:
                shown.append(value)
    for run in [one for one in runs if one.history_rows][:NUM_EXAMPLES]:
        for column, held in folder.history(run, list(run.history_columns)).items():
            last = held.present.nonzero()[0][-1:]
            if len(last):
                number = float(held.numbers[last[0]])
                examples[f"history.{column}"].append(held.texts[last[0]] if held.texts else number)
    return [
        {"name": name, "runs": counts[name], "values": values.get(name, counts[name]), "examples": examples[name]}
        for name in sorted(counts)
    ]


def propose(names: Sequence[Json]) -> tuple[TableMapping, dict[str, list[str]]]:
    """Returns a likely mapping to look at, and other candidates by column.

    See `analysis.tables.proposals` for what is likely. Columns that only some runs have may be empty.
    """
    examples = {row["name"]: row["examples"] for row in names}
    counts = {row["name"]: row["runs"] for row in names}
    losses = rank_names("loss", examples, counts, ("history", "summary"))
    by_row = bool(losses) and losses[0].startswith("history.")
    found = propose_columns(examples, counts, _sections(by_row))
    found["loss"] = losses
    found["status"] = _state_names(examples)
    columns, others = dict[str, str](), dict[str, list[str]]()
    optional = []
    if by_row and "summary.wall_seconds" in examples:
        found.pop("wall_seconds", None)  # the whole run's, beside a tracker's own, which may have begun later
    skipped = (*SET_BY_IMPORT, *(OF_THE_END if by_row else ()))
    values = {row["name"]: row["values"] for row in names}
    for ours, ranked in found.items():
        if not ranked or ours in skipped or (ours == "step" and (not by_row or ranked[0] == "history._step")):
            continue
        shown = [render_values(name, examples[name], ours).expression for name in ranked[: 1 + NUM_OTHERS]]
        columns[ours], others[ours] = shown[0], shown[1:]
        is_sparse = ranked[0].startswith("history.") and values[ranked[0]] < values[losses[0]]
        if ours not in NEEDED and (is_sparse or counts[ranked[0]] < max(counts.values())):
            optional.append(ours)
    if "data_seen" not in columns and (product := _data_product(examples, counts, by_row)):
        columns["data_seen"] = product
    mapping = TableMapping(columns=columns, optional=tuple(optional))
    return mapping, {ours: rest for ours, rest in others.items() if rest}


def find_doubts(names: Sequence[Json], columns: Mapping[str, str]) -> list[str]:
    """Returns what is doubtful of a proposal: values that are no numbers, and units in names that they do not fit."""
    examples = {row["name"]: row["examples"] for row in names}
    return [
        f"{ours}: {doubt}"
        for ours, text in columns.items()
        for name in read_expression(text, list(examples), f"--column {ours}").names()
        if (doubt := render_values(name, examples[name], ours).doubt)
    ]


def _sections(by_row: bool) -> dict[str, tuple[str, ...]]:
    """Returns where each column may come from: what changes within a run from where the loss does."""
    sections: dict[str, tuple[str, ...]] = dict.fromkeys(CONTRACT, ("config", "summary", "run", "tags"))
    sections |= dict.fromkeys(TEXT_COLUMNS, ("config", "run", "tags", "summary"))
    sections |= dict.fromkeys(BY_ROW, ("history",) if by_row else ("summary", "config"))
    sections |= {"wall_seconds": ("history",) if by_row else ("summary", "config"), "step": ("history",)}
    return sections


def _state_names(examples: Mapping[str, Sequence[Any]]) -> list[str]:
    """Returns the name that says how runs stand, where it is ours or the source itself does not say it."""
    plain = {name.partition(".")[2].lower().replace(" ", "_").replace("/", "_"): name for name in examples}
    if examples.get("run.state"):
        is_ours = knows_all(examples.get("summary.status", ()))
        return ["summary.status"] if is_ours and "summary.data_seen" in examples else []
    return [plain[name] for name in COLUMNS if name in plain and knows_all(examples[plain[name]])][:1]


def _data_product(examples: Mapping[str, Sequence[Any]], counts: Mapping[str, int], by_row: bool) -> str | None:
    """Returns steps times batch size times sequence length where all have names; a large batch is one of tokens."""
    section = "history" if by_row else "summary"
    steps = rank_names("step", examples, counts, (section,))
    batches = rank_names("batch_size", examples, counts, ("config",))
    lengths, accumulated = (_matching(pattern, examples, counts) for pattern in (SEQUENCE, ACCUMULATION))
    if not steps or not batches:
        return None
    factors = [steps[0], batches[0]]
    is_whole = re.search(r"(global|total|train)_batch_size$", batches[0]) is not None
    is_in_tokens = is_whole and all((read_count(value) or 0) >= TOKENS for value in examples[batches[0]])
    if not is_in_tokens:
        if not lengths:
            return None
        factors.append(lengths[0])
    if accumulated and not is_whole:
        factors.append(accumulated[0])
    return "*".join(render_values(name, examples[name], "data_seen").expression for name in factors)


def _matching(pattern: str, examples: Mapping[str, Sequence[Any]], counts: Mapping[str, int]) -> list[str]:
    found = []
    for name, values in examples.items():
        section, _, rest = name.partition(".")
        leaf = re.split(r"[./]", rest.lower())[-1]
        is_number = bool(values) and all(read_count(value) is not None for value in values)
        if section == "config" and is_number and re.fullmatch(pattern, leaf):
            found.append((-counts[name], len(name), name))
    return [name for *_, name in sorted(found)]


def show_examples(values: Sequence[Any]) -> str:
    """Returns examples in one short line.

    >>> show_examples([0.001, "124M", [1, 2]])
    '0.001, 124M, [1, 2]'
    """
    shown = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(text if len(text) <= 30 else text[:27] + "..." for text in shown)
