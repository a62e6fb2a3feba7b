"""What becomes of queued resources: from what Google, their hosts and the ledger say, and what follows from it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launch.engines import Sighting, State
from launch.engines.cloud_tpu.api import Api, labels_of, nodes_of
from launch.engines.cloud_tpu.costs import HOUR, Allocation, Allowance, Ledger
from launch.exits import OF_AGENTS, WORK_FAILED
from scaling.specs.base import Spec

# Of what ended a host's agent, after which the host's fate is its own: nothing, or its deadline. After the others the
# machine is taken away, or starts once more.
FINAL = ("", "deadline")

# A machine is paid for from about so long before it first says something, and to so long after it last did.
BOOT_SECONDS, REPORT_SECONDS = 180.0, 60.0

WAITING = {
    "": "Google does not list the request yet",
    "CREATING": "Google looks at the request",
    "ACCEPTED": "the request is in the queue",
    "WAITING_FOR_RESOURCES": "no machines are free",
    "PROVISIONING": "the machines are being made",
}


class HostReport(Spec):
    """What a host says of itself: see `host`."""

    host: str
    worker: int
    began: float
    seen: float
    status: int | None
    told: str
    why: str

    @property
    def is_final(self) -> bool:
        """Whether its agent has ended for good."""
        return self.status is not None and self.told in FINAL


class Watch:
    """All allocations of a store, looked at together.

    Args:
      api: to ask.
      ledger: the ledger of the store.
      budget: that they share.
      store_label: by which requests of this store are known.
      silent_seconds: that a machine may say nothing.
      clock: seconds since 1970.
    """

    def __init__(
        self,
        api: Api,
        ledger: Ledger,
        budget: Allowance,
        store_label: tuple[str, str],
        silent_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._api, self._ledger, self._budget, self._store_label = api, ledger, budget, store_label
        self._silent_seconds, self._clock = silent_seconds, clock

    def look(self) -> tuple[dict[str, Allocation], dict[str, Sighting]]:
        """Returns the ledger as it is now, and what has become of every allocation in it.

        Those that have ended, were lost or have used up what they may are let go.

        Raises:
          EngineError: the API cannot be asked now.
        """
        entries, sightings = self._ledger.read(), {}
        live = self._api.list()
        for handle, entry in entries.items():
            if entry.ended is None and entry.name == self._api.name(handle):  # others' zones are theirs to look at
                entries[handle], sightings[handle] = self._look_at(entry, live.get(handle))
        why = self._budget.excess(entries.values(), self._clock())
        for handle, entry in entries.items():
            if why and not entry.state:
                entries[handle] = self.end(entry, live.get(handle), "failed", why)
            if entries[handle].state:
                sightings[handle] = _as_ended(entries[handle])
        self.reap(live, entries)
        return entries, sightings

    def end(self, entry: Allocation, resource: Any, state: str, why: str) -> Allocation:
        """Gives an allocation's machines back, and returns it with how it ends; it has ended when they are gone."""
        now, reports = self._clock(), self._reports(entry.handle)
        entry = self._with_begin(entry, resource, reports)
        ended = None
        if resource is None or resource.state.state.name in ("SUSPENDED", "FAILED"):
            # Nobody may have looked for long: machines were there for little longer than they said something.
            known = [one.seen for one in reports] + ([] if entry.closing is None else [entry.closing])
            ended = min(now, max(known, default=now) + 2 * REPORT_SECONDS)
        if resource is not None and resource.state.state.name != "DELETING":
            self._api.delete(resource.name)
        closing = now if entry.closing is None else entry.closing
        entry = entry.model_copy(update={"closing": closing, "ended": ended, "state": state, "why": why})
        self._ledger.write(entry)
        return entry

    def reap(self, live: Mapping[str, Any], entries: Mapping[str, Allocation]) -> list[str]:
        """Deletes requests of this store that nobody waits for any more, and returns their handles.

        Those that are suspended or have failed count against the quota until they are deleted.
        """
        key, value = self._store_label
        dead = []
        for handle, one in live.items():
            is_ours, entry = labels_of(one).get(key) == value, entries.get(handle)
            has_ended = entry is not None and entry.ended is not None
            is_lost = entry is None and one.state.state.name in ("SUSPENDED", "FAILED")
            if is_ours and (has_ended or is_lost) and one.state.state.name != "DELETING" and self._api.delete(one.name):
                dead.append(handle)
        return dead

    # --- one of them ------------------------------------------------------------------------------------------------

    def _look_at(self, entry: Allocation, resource: Any) -> tuple[Allocation, Sighting]:
        state = "" if resource is None else resource.state.state.name
        reports = self._reports(entry.handle)
        begun = self._with_begin(entry, resource, reports)
        if begun != entry:
            self._ledger.write(begun)
        ended = (begun.state, begun.why) if begun.state else self._find_end(begun, resource, state, reports)
        if ended is not None:
            done = self.end(begun, resource, *ended)
            return done, _as_ended(done)
        place = ", ".join(sorted(one.host for one in reports[:4])) + (", …" if reports[4:] else "")
        if state in WAITING:
            hours = (self._clock() - entry.asked) / HOUR
            why = f"{state or 'asked for'} for {hours:.1f} h: {WAITING[state]}"
            if state == "WAITING_FOR_RESOURCES" and hours > 1:
                why += "; another zone, fewer chips or provisioning=spot may come sooner"
            return begun, Sighting("waiting", why=why)
        if not reports:
            return begun, Sighting("running", why="the machines start")
        return begun, Sighting("running", place=place)

    def _find_end(
        self, entry: Allocation, resource: Any, state: str, reports: Sequence[HostReport]
    ) -> tuple[State, str] | None:
        """Returns how an allocation has ended; None while it goes on."""
        now = self._clock()
        firsts = [one for one in reports if one.is_final and (one.worker == 0 or entry.hosts == 1)]
        if firsts:
            return _how_ended(firsts, entry)
        if any(one.status is not None and one.told == "notice" for one in reports):
            return ("preempted", "Google takes the machines back")
        if resource is None or state == "DELETING":
            if now - entry.asked < REPORT_SECONDS and not reports:  # the list may not know it yet
                return None
            return ("ended", "somebody has deleted its request")
        if state == "FAILED":
            error = resource.state.failed_data.error.message
            return ("failed", f"Google gave no machines: {error or 'no reason given'}")
        if state in ("SUSPENDING", "SUSPENDED"):
            by_user = resource.state.state_initiator.name == "USER"
            return ("preempted", "somebody has deleted its machines" if by_user else "Google took the machines back")
        if state != "ACTIVE" or entry.began is None:
            return None
        if now - entry.began > entry.hours * HOUR:
            return ("preempted", f"it may run for {entry.hours:.2f} hours, and has")
        if now - entry.began < self._silent_seconds:
            return None
        minutes = f"{self._silent_seconds / 60:.0f} minutes"
        if len(reports) < entry.hosts:
            return (
                "failed",
                f"{len(reports)} of {entry.hosts} hosts have said anything in {minutes}; look at what their startup "
                "script prints (gcloud compute tpus tpu-vm ssh …, journalctl -u google-startup-scripts): may the "
                "service account write to the store, and do they reach the internet?",
            )
        silent = [one.host for one in reports if now - one.seen > self._silent_seconds]
        if silent:
            return ("preempted", f"host {silent[0]} has said nothing for {minutes}")
        return None

    def _with_begin(self, entry: Allocation, resource: Any, reports: Sequence[HostReport]) -> Allocation:
        """Returns an entry with the time from which its machines cost, once that is known."""
        if entry.began is not None:
            return entry
        known = [one.began - BOOT_SECONDS for one in reports]
        if resource is not None and resource.state.state.name in ("ACTIVE", "SUSPENDING", "SUSPENDED"):
            found = self._api.node_began(nodes_of(resource))
            if found is not None:
                known.append(found)
            elif not known:  # its machines are gone: they cannot have begun before they were asked for
                known.append(entry.asked)
        if not known:
            return entry
        return entry.model_copy(update={"began": max(min(known), entry.asked)})

    def _reports(self, handle: str) -> list[HostReport]:
        folder = self._ledger.folder(handle)
        found = []
        for path in sorted(folder.glob("*.json")) if folder.exists() else ():
            if path.name != "allocation.json":
                try:
                    found.append(HostReport.model_validate(json.loads(path.read_text()), strict=False))
                except (OSError, ValueError):  # gone, or of another version
                    continue
        return found


def _how_ended(reports: Sequence[HostReport], entry: Allocation) -> tuple[State, str]:
    """Returns how an allocation ended whose first hosts have."""
    if any(one.told == "deadline" for one in reports):
        return ("preempted", f"it may run for {entry.hours:.2f} hours, and has")
    worst = max(reports, key=lambda one: (one.status not in OF_AGENTS, one.status or 0))
    log = f"its log is cloud_tpu/{entry.handle}/{worst.host}.log"
    if worst.status not in OF_AGENTS:
        return ("failed", f"on host {worst.host}: {worst.why}; {log}")
    why = f"its agent ended with status {WORK_FAILED}, cells have failed; {log}"
    return ("ended", why if worst.status == WORK_FAILED else "")


def _as_ended(entry: Allocation) -> Sighting:
    """Returns how an allocation ended, or that it is about to."""
    if entry.ended is None:
        return Sighting("running", why=f"its machines are given back: {entry.why or 'nothing is left for them'}")
    state: Any = entry.state
    return Sighting(state, why=entry.why)
