"""The Cloud TPU engine: queued resources, each a slice or several, whose hosts start agents and end by themselves."""

import dataclasses
import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, assert_never

from pydantic import Field

from launch.coordination.provenance import user_name
from launch.engines import EngineError, Order, Sighting, ask_for
from launch.engines.cloud_tpu.api import Api, labels_of
from launch.engines.cloud_tpu.code import pack_checkout
from launch.engines.cloud_tpu.costs import HOUR, MARGIN_HOURS, Allocation, Allowance, Ledger
from launch.engines.cloud_tpu.watch import Watch
from launch.engines.google import (
    LAUNCH,
    STORE,
    STUDY,
    USER,
    check_variables,
    label,
    make_labels,
    read_variables,
    store_label,
)
from launch.engines.tpu_slices import Slice, find_slice, price_of
from scaling.specs.base import InputError, Spec
from scaling.store.store import Store

HOST = Path(__file__).with_name("host.py")  # what machines run when they start

PREFIX = "scaling"


class Settings(Spec):
    """What is asked of Google Cloud.

    Attributes:
      project, zone: where the machines are, and who pays.
      accelerator: type of a slice, as `v5litepod-16`; or a generation, with `topology`.
      topology: arrangement of a slice's chips, as `4x4`.
      slices: the slices of an allocation; they are joined by the data centre's network.
      provisioning: `spot` machines are cheaper, and taken away at any moment.
      reservation: name of one's own, for `reserved`; empty for any.
      runtime: software version of the machines; empty for their generation's.
      bucket: gs:// folder for the code; empty for the store's own.
      python: version, or path on the machines, of the interpreter; empty for the version that asks.
      install: what uv installs on every host, in a new environment; empty runs `python` as it is.
      image: of a container with everything installed, instead.
      env: names of variables that agents get from the environment of whoever submits.
      network, subnetwork: of the machines; empty for the project's default.
      external_ips: whether machines have addresses that the internet sees; without, the network needs NAT.
      service_account: that the machines act as; empty for the project's default.
      price_per_chip_hour: in dollars; None for the list's.
      max_dollars, max_chip_hours: of all that this store has ever asked for; None for no bound.
      max_hours: that an allocation may run.
      max_waiting_hours: that Google may take to find machines; None for as long as it takes.
      max_silent_minutes: that a running machine may say nothing before it is given up.
      endpoint: HOST:PORT of a stand-in for the API, without TLS and credentials; empty for Google's.
    """

    project: str = ""
    zone: str = ""
    accelerator: str = "v5litepod-1"
    topology: str = ""
    slices: int = Field(1, ge=1)
    provisioning: Literal["on_demand", "spot", "reserved"] = "on_demand"
    reservation: str = ""
    runtime: str = ""
    bucket: str = ""
    python: str = ""
    install: tuple[str, ...] = ("-c", "constraints.txt", "-e", ".[tpu,gcs]")
    image: str = ""
    env: tuple[str, ...] = ()
    network: str = ""
    subnetwork: str = ""
    external_ips: bool = True
    service_account: str = ""
    price_per_chip_hour: float | None = Field(None, gt=0)
    max_dollars: float | None = Field(None, gt=0)
    max_chip_hours: float | None = Field(None, gt=0)
    max_hours: float = Field(24.0, gt=0)
    max_waiting_hours: float | None = Field(None, gt=0)
    max_silent_minutes: float = Field(20.0, gt=0)
    endpoint: str = ""


@dataclasses.dataclass(frozen=True)
class QueuedResource:
    """A queued resource that some launch has asked for.

    Attributes:
      name: its full name.
      state: in Google's words.
      launch, study, user: who asked, and for what.
      accelerator: type of each of its slices; `slices` of them.
      hours: since it was asked for.
    """

    name: str
    state: str
    launch: str
    study: str
    user: str
    accelerator: str
    slices: int
    hours: float


def connect(settings: Settings, store: Store) -> "CloudTpu":
    """Returns the engine.

    Raises:
      InputError: a setting is missing or impossible; the store cannot be seen by machines elsewhere.
      EngineError: Google's client is not installed.
    """
    for name in ("project", "zone"):
        if not getattr(settings, name):
            raise InputError(f"--option {name}=… is missing; say which {name} of Google Cloud the machines are in")
    if not str(store.path).startswith("gs://"):
        raise InputError(
            f"--store {str(store.path)!r}: machines of Cloud TPU cannot see it; give a folder of a bucket, as "
            "gs://my-bucket/my-study"
        )
    if settings.bucket and not settings.bucket.startswith("gs://"):
        raise InputError(f"bucket={settings.bucket!r}: must be a gs:// folder, as gs://my-bucket/scaling")
    wanted = find_slice(settings.accelerator, settings.topology)
    if not wanted.generation.runtime:
        raise InputError(f"accelerator={settings.accelerator!r}: {wanted.chip.name} is offered in GKE only; use gke")
    if settings.reservation and settings.provisioning != "reserved":
        raise InputError(f"reservation={settings.reservation!r} needs provisioning=reserved")
    if settings.max_dollars is not None and price_of(wanted, settings.price_per_chip_hour)[0] is None:
        raise InputError(f"max_dollars={settings.max_dollars:g} needs a price; give price_per_chip_hour")
    check_variables(settings.env)
    return CloudTpu(settings, wanted, store, Api(settings.project, settings.zone, settings.endpoint))


def find(settings: Settings) -> list[QueuedResource]:
    """Returns what one's own launches have asked for and not let go, whatever store they work on, longest first.

    Args:
      settings: with a project; without a zone, all zones are looked through.

    Raises:
      InputError: no project is given.
      EngineError: the API cannot be asked now.
    """
    if not settings.project:
        raise InputError("--option project=… is missing; say in which project of Google Cloud to look")
    now, found = time.time(), []
    for one in Api(settings.project, settings.zone or "-", settings.endpoint).list().values():
        labels = labels_of(one)
        if LAUNCH in labels and labels.get(USER) == label(user_name()):
            node = one.tpu.node_spec[0].node
            kind = node.accelerator_type or f"{node.accelerator_config.type_.name} {node.accelerator_config.topology}"
            count = sum(spec.multislice_params.node_count or 1 for spec in one.tpu.node_spec)
            who = (labels[LAUNCH], labels.get(STUDY, ""), labels.get(USER, ""))
            asked = now if one.create_time is None else one.create_time.timestamp()
            found.append(QueuedResource(one.name, one.state.state.name, *who, kind, count, (now - asked) / HOUR))
    return sorted(found, key=lambda one: -one.hours)


class CloudTpu:
    """Queued resources as allocations.

    Args:
      settings: what is asked for.
      wanted: the slice that they mean.
      store: that agents work on; the ledger is kept there.
      api: to ask.
      clock: seconds since 1970.
    """

    outlives_command = True

    def __init__(
        self, settings: Settings, wanted: Slice, store: Store, api: Api, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings, self._wanted, self._store, self._api, self._clock = settings, wanted, store, api, clock
        self._ledger = Ledger(store)
        self._budget = Allowance(settings.max_chip_hours, settings.max_dollars, settings.max_hours)
        self._price, self._price_from = price_of(wanted, settings.price_per_chip_hour)
        self._chips = wanted.chips * settings.slices
        silent_seconds = settings.max_silent_minutes * 60
        self._watch = Watch(api, self._ledger, self._budget, (STORE, store_label(store)), silent_seconds, clock)

    # --- the engine's functions -------------------------------------------------------------------------------------

    def describe(self, order: Order, count: int) -> str:
        """Returns the requests that `submit` would send, and what they would cost; asks nobody but the store."""
        archive = pack_checkout()
        hours = self._hours(self._ledger.read(), count)
        url = archive.url(self._folder())
        handle = self._new_handle(order)
        resource = self._resource(
            order, handle, hours, url, archive.sha256, dict.fromkeys(self._settings.env, "(hidden)")
        )
        message = type(resource).to_dict(
            resource, use_integers_for_enums=False, always_print_fields_with_no_presence=False
        )
        for spec in message["tpu"]["node_spec"]:
            values = spec["node"]["metadata"]
            values["startup-script"] = f"{HOST.name}, as it is"
            values["scaling-order"] = json.loads(values["scaling-order"])
        slices = f"{self._settings.slices} slices of " if self._settings.slices > 1 else ""
        each = f"{self._chips} chips on {self._hosts} {'host' if self._hosts == 1 else 'hosts'} each"
        cost = "unknown" if self._price is None else f"${self._price * self._chips * count:,.2f} an hour for all"
        where = f"{self._settings.zone}, {self._settings.provisioning}"
        return "\n".join(
            [
                f"{count} times {slices}{self._wanted.accelerator_type} ({each}) in {where}",
                f"price: {cost}; the price of a chip-hour is {self._price_from}",
                f"each ends by itself after {hours:.2f} hours at most",
                f"code: {archive.num_files} files, {len(archive.data) / 1e6:.1f} MB, at {url}",
                f"{count} requests to create {self._api.name(handle)}, each with another end of its name:",
                json.dumps(message, indent=2, ensure_ascii=False),
            ]
        )

    def submit(self, order: Order, count: int) -> list[str]:
        """Asks for queued resources; each is in the ledger before Google hears of it.

        Raises:
          InputError: a variable to be passed on is not set here.
          EngineError: Google refuses, or the budget does.
        """
        environment = read_variables(self._settings.env)
        self._api.check_offer(self._wanted)
        hours = self._hours(self._watch.look()[0], count)
        archive = pack_checkout()
        url = archive.upload(self._folder())

        def ask() -> str:
            handle = self._new_handle(order)
            entry = Allocation(
                name=self._api.name(handle), launch=order.launch, accelerator=self._wanted.accelerator_type,
                chips=self._chips, hosts=self._hosts, price_per_chip_hour=self._price, hours=hours, asked=self._clock(),
            )  # fmt: skip
            self._ledger.write(entry)
            try:
                self._api.create(handle, self._resource(order, handle, hours, url, archive.sha256, environment))
            except EngineError as error:
                self._ledger.write(
                    entry.model_copy(update={"ended": self._clock(), "state": "failed", "why": str(error)})
                )
                raise
            return handle

        return ask_for(count, ask)

    def observe(self, handles: Sequence[str]) -> Mapping[str, Sighting]:
        """Returns what has become of allocations; lets go of those that have ended, and of all over the budget.

        Raises:
          EngineError: the API cannot be asked now.
        """
        _, sightings = self._watch.look()
        return {handle: sightings.get(handle, Sighting("ended", why="unknown to this store")) for handle in handles}

    def cancel(self, handles: Sequence[str]) -> None:
        """Lets go of allocations and their machines.

        Raises:
          EngineError: the API cannot be asked now.
        """
        entries, live = self._ledger.read(), self._api.list()
        for handle in handles:
            entry = entries.get(handle)
            if entry is not None and not entry.state:
                entries[handle] = self._watch.end(entry, live.get(handle), "ended", "cancelled")
        self._watch.reap(live, entries)

    # --- what is asked for ------------------------------------------------------------------------------------------

    @property
    def _hosts(self) -> int:
        return self._wanted.hosts * self._settings.slices

    def _folder(self) -> str:
        return self._settings.bucket or str(self._store.path)

    def _hours(self, ledger: Mapping[str, Allocation], count: int) -> float:
        return self._budget.share(ledger.values(), self._clock(), self._chips, self._price, count)

    def _new_handle(self, order: Order) -> str:
        return f"{PREFIX}-{label(order.launch)[:40].strip('-_')}-{uuid.uuid4().hex[:6]}"

    def _resource(
        self, order: Order, handle: str, hours: float, url: str, sha256: str, environment: Mapping[str, str]
    ) -> Any:
        """Returns the message that asks for one allocation."""
        types, settings, wanted = self._api.types, self._settings, self._wanted
        words = [*order.words, *(["--distributed"] if self._hosts > 1 and "--distributed" not in order.words else [])]
        here = f"{sys.version_info.major}.{sys.version_info.minor}"
        told = {
            "name": self._api.name(handle),
            "reports": f"{str(self._store.path).rstrip('/')}/cloud_tpu/{handle}",
            "code": url,
            "sha256": sha256,
            "words": words,
            "python": settings.python or ("python3" if settings.image else here),
            "install": [] if settings.image else list(settings.install),
            "image": settings.image,
            "deadline_seconds": max(hours - MARGIN_HOURS, hours / 2) * HOUR,
            "hosts": self._hosts,
        }
        metadata = {
            "startup-script": HOST.read_text(),
            "scaling-order": json.dumps(told),
        }
        if environment:
            metadata["scaling-env"] = json.dumps(dict(environment))
        node = types.Node(
            runtime_version=settings.runtime or wanted.generation.runtime,
            network_config=types.NetworkConfig(
                network=settings.network, subnetwork=settings.subnetwork, enable_external_ips=settings.external_ips
            ),
            service_account=types.ServiceAccount(
                email=settings.service_account, scope=["https://www.googleapis.com/auth/cloud-platform"]
            ),
            labels=make_labels(order.launch, self._store),
            metadata=metadata,
        )
        if wanted.is_named_by_topology:
            kind = types.AcceleratorConfig.Type[wanted.generation.api_type]
            node.accelerator_config = types.AcceleratorConfig(type_=kind, topology=wanted.topology)
        else:
            node.accelerator_type = wanted.accelerator_type
        if settings.provisioning != "on_demand":
            node.scheduling_config = types.SchedulingConfig(**{settings.provisioning: True})
        spec = types.QueuedResource.Tpu.NodeSpec(parent=self._api.parent, node=node)
        if settings.slices > 1:
            params = types.QueuedResource.Tpu.NodeSpec.MultisliceParams
            spec.multislice_params = params(node_count=settings.slices, node_id_prefix=handle)
        else:
            spec.node_id = handle
        resource = types.QueuedResource(tpu=types.QueuedResource.Tpu(node_spec=[spec]))
        match settings.provisioning:
            case "on_demand":
                pass
            case "spot":
                resource.spot = types.QueuedResource.Spot()
            case "reserved":
                resource.guaranteed = types.QueuedResource.Guaranteed()
                if settings.reservation:
                    resource.reservation_name = f"{self._api.parent}/reservations/{settings.reservation}"
            case _:
                assert_never(settings.provisioning)
        if settings.max_waiting_hours is not None:
            seconds = int(settings.max_waiting_hours * HOUR)
            resource.queueing_policy = types.QueuedResource.QueueingPolicy(valid_until_duration={"seconds": seconds})
        return resource
