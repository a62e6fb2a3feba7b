"""What raw runs offer for a mapping: their names with examples and counts, and likely ones for our columns."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from analysis.tables.expressions import Expression, Factor
from launch.imports.mapping import TableMapping, collect_names
from launch.imports.raw import RawFolder, RawRun
from launch.imports.rows import read_count, read_number
from scaling.specs.base import Json

NUM_EXAMPLES = 3
# Patterns for the end of a name, most likely first, after / . - and spaces became _ and letters small.
PATTERNS: dict[str, tuple[str, ...]] = {
    "loss": (r"(eval|valid|validation|val|test|held_out)_(.*_)?(loss|nll|cross_entropy)", r"(^|.*_)(loss|nll)"),
    "num_params": (r"(non_embedding_|total_|model_)?(n|num|number_of)_?(non_embedding_)?param(eter)?s(_.*)?",
                   r"(.*_)?param(eter)?s?(_count)?", r"model_size"),
    "data_seen": (r"(.*_)?(tokens|examples|samples)_(seen|processed|consumed|so_far)", r"consumed_(tokens|samples)",
                  r"(n|num|total|train|training)_(train_)?(tokens|examples|samples)", r"tokens"),
    "train_flops": (r"(.*_)?(train|training|total)_(.*_)?flops?", r"flops?", r"(.*_)?compute"),
    "seed": (r"(random_|rng_)?seed",),
    "peak_lr": (r"(peak|max|base)_(lr|learning_rate)", r"(.*_)?(lr|learning_rate)"),
    "batch_size": (r"(global|total|train)_batch_size", r"(.*_)?batch_size"),
    "family": (r"(.*_)?(family|architecture|arch|model_type)",),
    "label": (r"group", r"(.*_)?(experiment|series|sweep)"),
    "wall_seconds": (r"runtime", r"(.*_)?(wall|elapsed)_(time|seconds)"),
}  # fmt: skip
SEQUENCE = (r"(.*_)?(seq_?len|sequence_length|block_size|context_(size|length)|max_seq_len|ctx_len)",)
TEXT_COLUMNS = ("family", "label")


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
    """Returns a likely mapping to look at, and other candidates by column; names alone are the evidence.

    Names that more runs have come first, and among them those that the first patterns match.
    """
    examples = {row["name"]: row["examples"] for row in names}
    losses = _candidates("loss", names, ("history", "summary"))
    by_row = bool(losses) and losses[0].startswith("history.")
    columns: dict[str, str] = {}
    others: dict[str, list[str]] = {}
    for ours in PATTERNS:
        sections: tuple[str, ...] = ("config", "summary", "run", "tags")
        if ours in ("loss", "data_seen", "train_flops", "wall_seconds"):
            sections = ("history",) if by_row else ("summary", "config")
        elif ours in TEXT_COLUMNS:
            sections = ("config", "run", "tags")
        found = losses if ours == "loss" else _candidates(ours, names, sections)
        if found:
            shown = [_render(name, [] if ours in TEXT_COLUMNS else examples[name]) for name in found[:4]]
            columns[ours], others[ours] = shown[0], shown[1:]
    if "data_seen" not in columns and (product := _data_product(examples, names, by_row)):
        columns["data_seen"] = product
    return TableMapping(columns=columns), {ours: found for ours, found in others.items() if found}


def _render(name: str, examples: Sequence[Any]) -> str:
    """Returns the expression that reads a name's values: as a count where they are written like 124M."""
    function = None if all(read_number(value) is not None for value in examples) else "count"
    return Expression(factors=(Factor.model_validate({"kind": "name", "value": name, "function": function}),)).render()


def _data_product(examples: Mapping[str, Sequence[Any]], names: Sequence[Json], by_row: bool) -> str | None:
    """Returns steps times batch size times sequence length where all three have names."""
    step = "history._step" if by_row else "summary._step"
    batch = _candidates("batch_size", names, ("config",))
    sequence = _matching(SEQUENCE, names, ("config",), is_text=False)
    if step not in examples or not batch or not sequence:
        return None
    return "*".join(_render(name, examples[name]) for name in (step, batch[0], sequence[0]))


def _candidates(ours: str, names: Sequence[Json], sections: Collection[str]) -> list[str]:
    return _matching(PATTERNS[ours], names, sections, is_text=ours in TEXT_COLUMNS)


def _matching(patterns: Sequence[str], names: Sequence[Json], sections: Collection[str], *, is_text: bool) -> list[str]:
    found = []
    for row in names:
        section, _, name = row["name"].partition(".")
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        leaf = re.sub(r"[^a-z0-9]+", "_", name.lower().rpartition(".")[2]).strip("_")
        rank = next((i for i, pattern in enumerate(patterns) if _matches(pattern, plain, leaf)), None)
        fits = is_text or all(read_count(value) is not None for value in row["examples"])
        if section in sections and rank is not None and row["examples"] and fits:
            found.append((-row["runs"], rank, list(sections).index(section), len(name), row["name"]))
    return [name for *_, name in sorted(found)]


def _matches(pattern: str, plain: str, leaf: str) -> bool:
    return re.fullmatch(pattern, plain) is not None or re.fullmatch(pattern, leaf) is not None


def show_examples(values: Sequence[Any]) -> str:
    """Returns examples in one short line.

    >>> show_examples([0.001, "124M", [1, 2]])
    '0.001, 124M, [1, 2]'
    """
    shown = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(text if len(text) <= 30 else text[:27] + "..." for text in shown)
