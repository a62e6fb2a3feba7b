"""How a run stands: the words of trackers and schedulers, in ours."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["ok", "diverged", "failed", "interrupted"]
# A run that still goes on has not ended well yet. Words that say only that a run has ended are in none of these.
WORDS: dict[Status, str] = {
    # W&B, MLflow, Slurm, Ray, Kubernetes, ClearML, Optuna, SageMaker, Vertex; Ray Tune's word for a trial's end
    "ok": "ok finished complete completed done success successful succeeded published terminated status_success "
    "job_state_succeeded",
    "diverged": "diverged diverging divergence nan loss_nan nan_loss exploded",
    "failed": "failed failure fail error errored exception status_failure out_of_memory oom oomkilled oom_killed "
    "crashloopbackoff imagepullbackoff errimagepull launch_failed boot_fail upstream_failed job_state_failed",
    "interrupted": "interrupted crashed killed preempted preempting cancelled canceled aborted stopped stopping "
    "paused suspended timeout timed_out time_out timedout deadline deadline_exceeded node_fail node_failure evicted "
    "revoked requeued requeue_hold special_exit signaling stage_out lost died dead probably_dead pruned "
    "running active pending scheduled queued waiting created starting initializing initialized preparing provisioning "
    "configuring completing resizing in_progress inprogress restarting retrying resuming submitted idle "
    "status_running job_state_cancelled job_state_running job_state_pending job_state_queued job_state_paused "
    "job_state_expired",
}
STATUSES: dict[str, Status] = {word: ours for ours, words in WORDS.items() for word in words.split()}
# What a truth value says under a name; a run that did not fail may still go on, and counts by its other values.
TRUE_IS: dict[str, Status] = {
    "finished": "ok", "is_finished": "ok", "completed": "ok", "complete": "ok", "is_complete": "ok", "done": "ok",
    "success": "ok", "succeeded": "ok", "converged": "ok",
    "diverged": "diverged", "is_diverged": "diverged", "failed": "failed", "is_failed": "failed", "error": "failed",
    "crashed": "interrupted", "interrupted": "interrupted", "killed": "interrupted", "preempted": "interrupted",
}  # fmt: skip
FALSE_IS: dict[str, Status] = {name: "interrupted" if true == "ok" else "ok" for name, true in TRUE_IS.items()}
COLUMNS = (
    "status", "state", "run_status", "run_state", "job_status", "job_state", "trial_status", "trial_state",
    "task_status", "experiment_status", "final_status", "final_state", "sys_state", "run_info_status",
    "info_status", "phase",
)  # fmt: skip


def find_status(word: Any, name: str = "", more: Mapping[str, Status] | None = None) -> Status | None:
    """Returns our word for theirs, None where it is unknown; case, spaces, `-` and `_` do not matter.

    Args:
      word: a text, or a truth value.
      name: the column's; only some names tell what a truth value says.
      more: words beside those that are known, which come first.

    >>> find_status("Finished"), find_status("CANCELLED by 1000"), find_status("OUT-OF-MEMORY"), find_status("zombie")
    ('ok', 'interrupted', 'failed', None)
    >>> find_status(True, "crashed"), find_status("False", "Finished"), find_status(True)
    ('interrupted', 'interrupted', None)
    """
    key = _plain(str(word))
    extra = {_plain(theirs): ours for theirs, ours in (more or {}).items()}
    if key in extra:
        return extra[key]
    if key in ("true", "false"):
        return (TRUE_IS if key == "true" else FALSE_IS).get(_plain(name).rpartition(".")[2])
    if re.fullmatch(r"cancell?ed_by_.*", key):  # Slurm says who it was
        key = "cancelled"
    return STATUSES.get(key.rstrip("+"))  # which Slurm puts where a column is narrow


def translate_states(column: pd.Series[Any]) -> tuple[pd.Series[Any], str | None]:
    """Returns a column of states in our words, and a sentence that names each word; None where they were ours.

    Words that are unknown stay as they are, and with them their rows are left out of a fit; empty ones stay empty. The
    column's name tells what truth values say.

    >>> import pandas as pd
    >>> ours, said = translate_states(pd.Series(["finished", "finished", "zombie"], name="State"))
    >>> ours.tolist(), said
    (['ok', 'ok', 'zombie'], 'State: finished is ok (2 rows), zombie is unknown and stays (1)')
    """
    try:
        distinct: Iterable[Any] = column.unique().tolist()
    except TypeError:  # it holds lists
        distinct = column
    words = dict.fromkeys(word for word in distinct if isinstance(word, str | bool) and str(word).strip())
    meaning = {word: find_status(word, str(column.name)) for word in words}
    if all(word == ours for word, ours in meaning.items()):
        return column, None
    counts = collections.Counter(word for word in column if isinstance(word, str | bool))
    told = [
        f"{word} is {ours or 'unknown and stays'} ({counts[word]}"
        for word, ours in sorted(meaning.items(), key=lambda pair: pair[1] is None)
        if word != ours
    ]
    known = {word: ours for word, ours in meaning.items() if ours is not None}
    ours = column.astype(object).map(lambda word: known.get(word, word) if isinstance(word, str | bool) else word)
    return ours, f"{column.name}: " + "), ".join([f"{told[0]} rows", *told[1:]]) + ")"


def find_state_column(table: pd.DataFrame) -> str | None:
    """Returns the text column that says how each run stands, by its name, and if all its words are known; else None.

    >>> import pandas as pd
    >>> find_state_column(pd.DataFrame({"loss": [3.0, 4.0], "State": ["finished", None], "Phase": ["a", "b"]}))
    'State'
    """
    named = {_plain(str(name)): str(name) for name in reversed(list(table.columns)) if isinstance(name, str)}
    for name in (*COLUMNS, *(plain for plain in named if plain.rpartition(".")[2] in COLUMNS)):
        if name in named and knows_all(table[named[name]]):
            return named[name]
    return None


def knows_all(values: Iterable[Any]) -> bool:
    """Returns whether values are texts, some of them empty, and all known words of how a run stands."""
    words = {value for value in values if isinstance(value, str) and value.strip()}
    others = any(not isinstance(value, str) and value is not None and value == value for value in values)
    return bool(words) and not others and all(find_status(word) is not None for word in words)


def _plain(text: str) -> str:
    return re.sub(r"[\s_/-]+", "_", text.strip().lower()).strip("_")
