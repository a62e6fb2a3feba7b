"""All events of a sweep in one file."""

import json

from scaling.store.curves import read_curve
from scaling.tracking import make_tracker
from tests.told_runs import NUM_STEPS, estimators_of, networks_of, tell


def test_events_of_all_cells_are_in_one_file_with_their_time(store):
    tracker = make_tracker(["jsonl"], store)
    network, estimator = networks_of(store)[0], estimators_of(store)[0]
    tell(tracker, store, network, stop=12)
    tell(tracker, store, network, begin=10)
    tell(tracker, store, estimator)
    events = [json.loads(line) for line in (store.path / "events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events if e["cell"] == estimator] == ["begin", "evaluation", "end"]
    ours = [event for event in events if event["cell"] == network]
    assert [(e["event"], e["step"]) for e in ours if e["event"] == "begin"] == [("begin", 0), ("begin", 10)]
    steps = [event["step"] for event in ours if event["event"] == "train"]
    assert steps == [*range(1, 13), *range(11, NUM_STEPS + 1)]
    assert [event["status"] for event in ours if event["event"] == "end"] == ["interrupted", "ok"]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert len(read_curve(store.cell_path(network))) == NUM_STEPS + 4  # the ledger has every step once
