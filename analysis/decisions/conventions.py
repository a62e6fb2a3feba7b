"""How much the exponent of N* ~ C^a depends on how parameters and FLOPs are counted: a refit under every convention.

Porian et al. 2024 (2406.19146) and Pearce & Song 2024 (2406.12907) trace most of the gap between Kaplan et al. and
Hoffmann et al. to this choice: leaving tables or the readout out of N or C matters most for small models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analysis.decisions.allocation import Allocation, allocate
from analysis.decisions.optimum import Estimate, estimate
from analysis.decisions.trends import (
    BLIND,
    STEP,
    UNKNOWN,
    is_exponent_identified,
    is_possible,
    merge_notices,
    name_speaker,
)
from analysis.errors import AnalysisError
from analysis.fitting.notices import Notice
from analysis.laws.law import Array, Law
from analysis.laws.registry import get_law
from scaling.store.columns import CONVENTION, GROUP, LOOKUP_TABLES, TERM, TOTAL, TRAINING_FLOPS, is_part

if TYPE_CHECKING:
    import pandas as pd

HEAD = ("head",)
SCALES = ("norm",)
ELEMENTWISE = ("softmax", "norm", "embedding")  # terms that are no matrix products; a lookup written as one is none
UNIDENTIFIED = "unidentified"  # the status of an exponent that means nothing
SPREAD = 0.02  # in the exponent: at a thousand times the compute it moves N* by 15 %


@dataclass(frozen=True)
class ConventionSpread:
    """The exponent under every way of counting that the table's columns allow; prints as a table.

    Attributes:
      rows: `size flops exponent low high alpha beta status`, for each pair of conventions: a of N* ~ C^a between the
        smallest and the largest budget in that convention, with its 95 % interval over resamples; alpha and beta
        are empty for laws without them. The status is `ok`, `weak` or, where a means nothing, `unidentified`.
      same: Conventions that count like another one on this table, by name.
      fits: Coded warnings of the fit under each count of N, by its name.
      general: Coded warnings of the comparison.
    """

    rows: pd.DataFrame
    same: dict[str, str]
    fits: Mapping[str, tuple[Notice, ...]]
    general: tuple[Notice, ...]

    @property
    def told(self) -> list[tuple[tuple[str, ...], Notice]]:
        """Returns each warning once, with the counts of N whose fit gave it; none where it is of all."""
        return [*merge_notices(self.fits.items()), *(((), notice) for notice in self.general)]

    @property
    def warnings(self) -> tuple[Notice, ...]:
        """Returns each warning once, with the counts of N that it is of in its text."""
        return tuple(
            name_speaker([f"N counted as {', '.join(names)}"] if names else [], notice) for names, notice in self.told
        )

    @property
    def known(self) -> pd.DataFrame:
        """Returns the rows whose exponent means something."""
        return self.rows[self.rows["status"] != UNIDENTIFIED]

    @property
    def spread(self) -> float:
        """Returns the largest exponent less the smallest, of those that mean something; NaN without any."""
        return float(self.known["exponent"].max() - self.known["exponent"].min())

    def to_frame(self) -> pd.DataFrame:
        """Returns `rows`."""
        return self.rows

    def summarise(self) -> str:
        """Returns the table and its spread, without the warnings."""
        import pandas as pd

        shown = []
        for row in self.rows.to_dict("records"):
            ends = (None if pd.isna(row[end]) else row[end] for end in ("low", "high"))
            value, low, high = Estimate(value=row["exponent"], **dict(zip(("low", "high"), ends, strict=True))).show()
            cells = (UNKNOWN, "", "") if row["status"] == UNIDENTIFIED else (value, low, high)
            slopes = ["" if pd.isna(row[name]) else f"{row[name]:.3f}" for name in ("alpha", "beta")]
            shown.append((row["size"], row["flops"], *cells, *slopes, row["status"]))
        table = pd.DataFrame(shown, columns=self.rows.columns).to_string(index=False)
        spread = [] if np.isnan(self.spread) else [f"spread of the exponent: {self.spread:.4f}"]
        same = [f"{name} counts like {other} here" for name, other in self.same.items()]
        return "\n".join([table, *spread, *same])

    def __str__(self) -> str:
        return "\n".join([self.summarise(), *map(str, self.warnings)])


def count_sizes(table: pd.DataFrame) -> dict[str, Array]:
    """Returns N `[n]` under every convention that the columns `params_<group>` allow.

    `all` is every parameter. `non_embedding` leaves out the tables of tokens and positions; `blocks` the readout too
    (Kaplan et al.); `with_head` is `blocks` and the readout, which is the token table where that is tied; `matmul` is
    `with_head` without the gains of norms (biases of other groups cannot be told apart and stay).

    Raises:
      AnalysisError: if `num_params` is missing or a group holds more than there are.
    """
    from analysis.tables.table import read_numbers

    total = read_numbers(table, "num_params")
    groups = {
        name.removeprefix(GROUP): np.nan_to_num(read_numbers(table, name))
        for name in table.columns
        if name.startswith(GROUP)
    }
    if not groups:
        return {"all": total}

    def add(names: tuple[str, ...]) -> Array:
        return sum((groups[name] for name in names if name in groups), start=np.zeros(len(table)))

    head = add(HEAD)
    tied = np.where(head > 0, 0.0, add(("embedding",)))
    outside = add(LOOKUP_TABLES)
    if (outside + head >= total).any():
        row = int(np.argmax(outside + head >= total))
        raise AnalysisError(
            f"params_embedding, params_positions and params_head hold {outside[row] + head[row]:g} of "
            f"num_params={total[row]:g} in row {row}; num_params must count all groups"
        )
    return {
        "all": total,
        "non_embedding": total - outside,
        "blocks": total - outside - head,
        "with_head": total - outside + tied,
        "matmul": total - outside + tied - add(SCALES),
    }


def count_flops(table: pd.DataFrame) -> dict[str, Array]:
    """Returns the training FLOPs `[n]` that the columns `flops_<term>` allow, beside 6 N D, which has none of its own.

    `exact` is all matrix products but those of attention's scores; `with_attention` adds them; `no_head` is `exact`
    without the readout (as Kaplan et al. counted); `recorded` is the column `train_flops`.
    """
    from analysis.tables.table import read_numbers

    terms = {
        name.removeprefix(TERM): np.nan_to_num(read_numbers(table, name))
        for name in table.columns
        if name.startswith(TERM)
    }
    counts: dict[str, Array] = {}
    if terms:
        products = {name: value for name, value in terms.items() if name not in (*ELEMENTWISE, "attention")}
        exact = sum(products.values(), start=np.zeros(len(table)))
        counts["exact"] = exact
        if "attention" in terms:
            counts["with_attention"] = exact + terms["attention"]
        if "logits" in terms:
            counts["no_head"] = exact - terms["logits"]
    if "train_flops" in table.columns:
        counts["recorded"] = read_numbers(table, "train_flops")
    return {name: values for name, values in counts.items() if (values > 0).all()}


def compare_conventions(
    table: pd.DataFrame,
    *,
    law: str | Law = "chinchilla",
    target: str = "loss",
    resamples: int = 200,
    seed: int = 0,
) -> ConventionSpread:
    """Returns the exponent of the compute-optimal size under every convention for N and for C.

    For each N the law is fitted anew. For each C, FLOPs a token are taken from the table's models, interpolated in log
    N between them, and the loss is minimised along lines of equal C; the exponent is the slope of log N* between the
    smallest and the largest C of the table.

    Args:
      table: Final rows with `num_params`, `data_seen` and the target; `params_<group>` and `flops_<term>` where known.
      law: Of `num_params` and `data_seen`.
      target: The loss.
      resamples: R of each fit.
      seed: Of the resamples.

    Raises:
      AnalysisError: on missing columns or no usable rows; if the law has other variables.
    """
    import pandas as pd

    from analysis.fit_table import fit as fit_table
    from analysis.tables.table import read_numbers, select_rows

    law = get_law(law)
    if set(law.variables) != {"num_params", "data_seen"}:
        raise AnalysisError(
            f"law={law.name!r} has variables {law.variables!r}; conventions are compared on laws of num_params and "
            "data_seen alone, like chinchilla"
        )
    if TOTAL in table.columns:
        table = table.assign(num_params=table[TOTAL]).drop(columns=CONVENTION, errors="ignore")
    needed = ["num_params", "data_seen", target]
    rows, _, _ = select_rows(table, needed, positive=needed)
    if not len(rows):
        raise AnalysisError(f"table has no usable rows with {', '.join(needed)}; see what --keep and status left over")
    data = read_numbers(rows, "data_seen")
    sizes, same_sizes = _keep_distinct(count_sizes(rows))
    flops, same_flops = _keep_distinct(count_flops(rows))
    exponents, told = [], {}
    for size, N in sizes.items():
        fit = fit_table(rows.assign(num_params=N), law, target, bootstrap=resamples, seed=seed)
        told[size] = fit.warnings
        is_blind = any(notice.code in BLIND for notice in fit.warnings)
        params = np.concatenate([fit.vector[None], fit.replicates])
        for name, spent in {"6nd": TRAINING_FLOPS * N * data, **flops}.items():
            cost = None if name == "6nd" else _price(N, spent / data)
            # a table of one budget has the slope there
            budgets = float(spent.min()), max(float(spent.max()), float(spent.min()) * np.exp(2 * STEP))
            ends = [_solve(law, params, budget, cost, N) for budget in budgets]
            slopes = np.log(ends[1].num_params / ends[0].num_params) / np.log(budgets[1] / budgets[0])
            exponent = estimate(float(slopes[0]), slopes[1:])
            known = is_exponent_identified(exponent)
            is_weak = not is_possible(exponent) or fit.status != "ok" or bool(ends[0].is_edge[0] or ends[1].is_edge[0])
            exponents.append(
                {
                    "size": size,
                    "flops": name,
                    "exponent": exponent.value,
                    "low": exponent.low,
                    "high": exponent.high,
                    "alpha": fit.params.get("alpha"),
                    "beta": fit.params.get("beta"),
                    "status": UNIDENTIFIED if is_blind or not known else "weak" if is_weak else "ok",
                }
            )
    frame = pd.DataFrame(exponents).astype(dict.fromkeys(("exponent", "low", "high", "alpha", "beta"), float))
    return ConventionSpread(frame, {**same_sizes, **same_flops}, told, tuple(_check_spread(frame, rows)))


def _keep_distinct(counts: dict[str, Array]) -> tuple[dict[str, Array], dict[str, str]]:
    """Returns the conventions that differ, and which earlier one each other equals."""
    distinct: dict[str, Array] = {}
    same: dict[str, str] = {}
    for name, values in counts.items():
        twin = next((other for other, those in distinct.items() if np.allclose(values, those, rtol=1e-9, atol=0)), None)
        if twin is None:
            distinct[name] = values
        else:
            same[name] = twin
    return distinct, same


def _price(N: Array, per_token: Array) -> Callable[[Array], Array]:
    """Returns FLOPs a token as a function of N: through the models in logarithms, proportional to N beyond them."""
    sizes, place = np.unique(N, return_inverse=True)
    costs = np.bincount(place, np.log(per_token)) / np.bincount(place)
    log_n = np.log(sizes)

    def cost(at: Array) -> Array:
        x = np.log(at)
        inside = np.clip(x, log_n[0], log_n[-1])
        return np.exp(np.interp(inside, log_n, costs) + x - inside)

    return cost


def _solve(law: Law, params: Array, flops: float, cost: Callable[[Array], Array] | None, N: Array) -> Allocation:
    return allocate(law, params, flops=flops, cost=cost, sizes=(float(N.min()), float(N.max())))


def _check_spread(frame: pd.DataFrame, rows: pd.DataFrame) -> list[Notice]:
    notices = []
    if not any(map(is_part, rows.columns)):
        text = (
            "the table has no params_<group> and no flops_<term>, so only num_params and its own FLOPs are compared; "
            "export records with their groups and terms"
        )
        notices.append(Notice(code="one_convention", text=text))
    lost = frame.loc[frame["status"] == UNIDENTIFIED, "size"].unique()
    if len(lost):
        text = (
            f"with N counted as {', '.join(lost)} the exponent could be anything, and no number is shown; run more "
            "sizes at several budgets"
        )
        notices.append(Notice(code="unidentified", text=text, is_weak=True))
    weak = frame.loc[frame["status"] == "weak", "size"].unique()
    if len(weak):
        text = (
            f"with N counted as {', '.join(weak)} the law fits weakly or has no optimum inside: it need not hold in "
            "that count; fit it alone and read its warnings"
        )
        notices.append(Notice(code="weak_fit", text=text, is_weak=True))
    steep = frame[~frame["exponent"].between(0, 1, inclusive="neither")]
    if len(steep):
        pairs = ", ".join(f"{row.size} with {row.flops}" for row in steep[["size", "flops"]].itertuples())
        text = (
            f"N* falls with the budget, or grows faster than it, with {pairs}, which no optimum inside does whose loss "
            "falls with N and D: the law need not hold in that count; spread the sizes at each budget"
        )
        notices.append(Notice(code="implausible_exponent", text=text, is_weak=True))
    frame = frame[frame["status"] != UNIDENTIFIED]
    if frame.empty:
        return notices
    least, most = (frame.loc[getattr(frame["exponent"], which)()] for which in ("idxmin", "idxmax"))
    if most["exponent"] - least["exponent"] > SPREAD:
        text = (
            f"the exponent runs from {least['exponent']:.3f} ({least['size']}, {least['flops']}) to "
            f"{most['exponent']:.3f} ({most['size']}, {most['flops']}) with how N and C are counted; name the "
            "convention beside the number, and compare it only with numbers of the same one"
        )
        notices.append(Notice(code="convention_sensitive", text=text))
    return notices
