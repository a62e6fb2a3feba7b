"""A process that races others for cells: for each line, CELL and what to do with the lease, it says how it went."""

import json
import os
import signal
import sys
import time

from launch.coordination.leases import Lease, LeaseLostError, Leases
from launch.coordination.presence import Observer, Presence
from scaling.store.record import Evaluation, Record, SubsetManifest
from scaling.store.store import Store

PATIENCE_SECONDS = 0.4


def make_record(cell: str, worker: str) -> Record:
    """Returns a small record that says whose it is."""
    data = SubsetManifest(
        source="digits", source_sha256="0", order="independent", seed=0, size=10, digests={}, class_counts=(),
        evaluation_size=5, evaluation_sha256="1",
    )  # fmt: skip
    return Record(
        cell=cell, family="mlp", seed=0, status="ok", num_params=1, params={}, data_unit="examples", data_unique=10,
        epochs=1.0, flops={}, flops_version=1, train_flops_spent=None, peak_lr=None, batch_size=None, wall_seconds=1.0,
        device_kind="cpu", num_devices=1, data=data, environment={"worker": worker},
        evaluations=(Evaluation(step=1, data_seen=10, train_flops=None, loss=1.0, metrics={}),),
    )  # fmt: skip


def race(store: Store, leases: Leases, worker: str, cell: str, what: str) -> dict[str, object]:
    """Returns whether this process published a cell, and how often it was refused."""
    published, refused = False, 0
    while not store.is_complete(cell):
        found = leases.claim(cell, worker)
        if isinstance(found, Lease):
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "1" and found.number == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
            try:
                leases.publish(found, make_record(cell, worker))
                published = True
            except LeaseLostError:
                refused += 1
        time.sleep(0.001)
    return {"worker": worker, "published": published, "refused": refused}


def main(path: str) -> None:
    """Races until there are no more lines."""
    store = Store(path)
    with Presence(store, patience_seconds=PATIENCE_SECONDS) as presence:
        leases = Leases(store, Observer(store))
        for line in sys.stdin:
            cell, what = line.split()
            print(json.dumps(race(store, leases, presence.worker, cell, what)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
