"""Where a store stands: what is done, running, failed, diverged and left."""

from typing import Any

from launch.jobs import estimate_seconds
from launch.lock import is_held
from launch.progress import format_seconds
from launch.text import render_table
from scaling.cell import Cell
from scaling.record import Store, cell_labels
from scaling.spec import canonical_json, fingerprint_text, parse

STATES = ("done", "running", "failed", "diverged", "left")


def describe_store(store: Store) -> dict[str, Any]:
    """Returns counts by series, whether a launcher is at work, and an estimate of the time left on one core."""
    is_running = is_held(store)
    names = {"ok": "done", "diverged": "diverged", "failed": "failed", "started": "running" if is_running else "left"}
    series: dict[str, dict[str, int]] = {one["label"]: dict.fromkeys(STATES, 0) for one in store.study["series"]}
    cells = {fingerprint_text(canonical_json(cell)): cell for one in store.study["series"] for cell in one["cells"]}
    spent = estimated = to_do = 0.0
    for name, labels in cell_labels(store.study).items():
        record = store.read_record(name)
        state = names.get(record.status if record else store.cell_status(name), "left")
        for label in labels:
            series[label][state] += 1
        guess = estimate_seconds(parse(Cell, canonical_json(cells[name]), name))
        if record is not None:
            spent, estimated = spent + record.wall_seconds, estimated + guess
        else:
            to_do += guess
    return {
        "store": str(store.path),
        "study": store.study["name"],
        "is_running": is_running,
        "series": [{"label": label, **counts} for label, counts in series.items()],
        "worker_seconds_spent": spent,
        "worker_seconds_left": to_do * (spent / estimated if estimated else 1.0),
    }


def render_status(found: dict[str, Any]) -> str:
    """Returns a store's standing for people."""
    totals = {state: sum(series[state] for series in found["series"]) for state in STATES}
    rows = [*found["series"], {"label": "all", **totals}]
    state = "running" if found["is_running"] else ("complete" if not totals["left"] + totals["failed"] else "stopped")
    lines = [f"{found['study']} in {found['store']}: {state}", "", render_table(rows), ""]
    time_left = f", about {format_seconds(found['worker_seconds_left'])} left" if found["worker_seconds_left"] else ""
    lines.append(f"{format_seconds(found['worker_seconds_spent'])} of worker time spent{time_left}")
    if totals["failed"]:
        lines.append("failed cells say why in cells/*/attempts.jsonl; the next run tries them again")
    return "\n".join(lines)
