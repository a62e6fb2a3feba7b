"""TPU slices by the names that Google Cloud gives them: how many chips and hosts each has, where, and at what price."""

import dataclasses
import math
import re

from scaling.devices.hardware import CUBE, PRICES_DATED, Chip, Slices, find_chip
from scaling.specs.base import InputError, suggest


@dataclasses.dataclass(frozen=True)
class Generation:
    """One kind of TPU, as Google Cloud offers it.

    Attributes:
      chip_name: in the table of chips, which knows the sizes of its slices.
      prefix: the prefix of its accelerator types.
      api_type: its name where a topology is asked for; empty where none can be.
      runtime: software version of its machines; empty where it has no machines but in GKE.
      zones: as documented in 2025.
      gke: its name among GKE's node labels; empty where GKE does not have it.
    """

    chip_name: str
    prefix: str
    api_type: str
    runtime: str
    zones: tuple[str, ...]
    gke: str

    @property
    def chip(self) -> Chip:
        """What the table knows of its chips."""
        return find_chip(self.chip_name)

    @property
    def slices(self) -> Slices:
        """Which slices there are."""
        slices = self.chip.slices
        assert slices is not None  # noqa: S101  (every TPU of the table has them)
        return slices

    @property
    def takes_topologies(self) -> bool:
        """Whether one may say how the chips of a slice shall be arranged."""
        return bool(self.api_type or self.gke)


# Accelerator types, software versions and zones: cloud.google.com/tpu/docs (pages on each version, "TPU software
# versions" and "TPU regions and zones"); GKE's names: cloud.google.com/kubernetes-engine/docs/concepts/tpus.
GENERATIONS = (
    Generation(
        "v2", "v2", "", "tpu-ubuntu2204-base", ("us-central1-b", "us-central1-c", "europe-west4-a", "asia-east1-c"), "",
    ),
    Generation("v3", "v3", "", "tpu-ubuntu2204-base", ("us-central1-a", "us-central1-b", "europe-west4-a"), ""),
    Generation("v4", "v4", "V4", "tpu-ubuntu2204-base", ("us-central2-b",), "tpu-v4-podslice"),
    Generation(
        "v5e", "v5litepod", "V5LITE_POD", "v2-alpha-tpuv5-lite",
        ("us-central1-a", "us-south1-a", "us-west1-c", "us-west4-a", "europe-west4-b"), "tpu-v5-lite-podslice",
    ),
    Generation(
        "v5p", "v5p", "V5P", "v2-alpha-tpuv5", ("us-central1-a", "us-east5-a", "europe-west4-b"), "tpu-v5p-slice",
    ),
    Generation(
        "v6e", "v6e", "V6E", "v2-alpha-tpuv6e",
        ("us-central1-b", "us-east1-d", "us-east5-a", "us-east5-b", "europe-west4-a", "asia-northeast1-b"),
        "tpu-v6e-slice",
    ),
    Generation("tpu7x", "tpu7x", "", "", (), "tpu7x"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """So many chips that are joined by their own links.

    Attributes:
      generation: the generation of the chips.
      chips: in all.
      topology: how they are arranged, as `4x4`; empty where that is left to Google.
      is_named_by_topology: whether it was asked for so.
    """

    generation: Generation
    chips: int
    topology: str
    is_named_by_topology: bool = False

    @property
    def accelerator_type(self) -> str:
        """Its name: `v5litepod-16`, `v4-32`."""
        return f"{self.generation.prefix}-{self.chips * self.generation.slices.named_units_per_chip}"

    @property
    def chips_per_host(self) -> int:
        """Chips that each of its machines has."""
        slices = self.generation.slices
        return self.chips if self.chips <= slices.most_on_one_host else slices.chips_per_host

    @property
    def hosts(self) -> int:
        """Machines that it has."""
        return self.chips // self.chips_per_host

    @property
    def chip(self) -> Chip:
        """What the table knows of its chips."""
        return self.generation.chip


def find_slice(accelerator: str, topology: str = "") -> Slice:
    """Returns a slice by its accelerator type, or by its generation and topology.

    >>> find_slice("v5litepod-16").hosts, find_slice("v4-16").chips, find_slice("v6e", "4x4").accelerator_type
    (4, 8, 'v6e-16')

    Raises:
      InputError: there is none of that name.
    """
    found = re.fullmatch(r"([a-z0-9]+?)(?:-(\d+))?", accelerator.lower())
    generation = None if found is None else _find_generation(found[1])
    if found is None or generation is None:
        names = [one.prefix for one in GENERATIONS]
        remedy = suggest(accelerator.lower().partition("-")[0], names)
        raise InputError(f"accelerator={accelerator!r} is no TPU; {remedy}, with a size, as 'v5litepod-8'")
    if topology:
        made = _arrange(generation, topology)
        if found[2] and made.accelerator_type.rpartition("-")[2] != found[2]:
            raise InputError(
                f"topology={topology!r} has {made.chips} chips, which is {made.accelerator_type}, and accelerator is "
                f"{accelerator!r}; give one of the two, as accelerator={generation.chip_name} topology={topology}"
            )
        return made
    if not found[2]:
        raise InputError(
            f"accelerator={accelerator!r} says no size; give one, as {_examples(generation)[1]!r}, or a topology"
        )
    slices = generation.slices
    chips = int(found[2]) / slices.named_units_per_chip
    if not slices.has(chips):
        counted = "cores" if slices.named_by_cores else "chips"
        raise InputError(
            f"accelerator={accelerator!r} does not exist: {generation.prefix}'s number counts {counted}; the "
            f"nearest is {_nearest(generation, chips).accelerator_type!r}"
        )
    usual = slices.layout(int(chips)) if generation.takes_topologies else None
    return Slice(generation, int(chips), usual or "")


def price_of(found: Slice, given: float | None) -> tuple[float | None, str]:
    """Returns dollars a chip-hour, None where not known, and where they come from in words."""
    if given is not None:
        return given, "yours"
    price = found.chip.price_per_hour
    if price is None:
        return None, "not known; give price_per_chip_hour"
    return price, f"the list's of {PRICES_DATED}, on demand; give price_per_chip_hour where yours differs"


def _find_generation(name: str) -> Generation | None:
    return next((one for one in GENERATIONS if name in (one.prefix, one.chip_name)), None)


def _examples(only: Generation | None = None) -> list[str]:
    """Returns accelerator types that there are, small ones."""
    chosen = [one for one in GENERATIONS if only in (None, one)]
    return [Slice(one, chips, "").accelerator_type for one in chosen for chips in one.slices.sizes[:6]]


def _nearest(generation: Generation, chips: float) -> Slice:
    slices = generation.slices
    sizes = [*slices.sizes, *range(CUBE, slices.most_in_cubes + 1, CUBE)]
    return Slice(generation, min(sizes, key=lambda size: abs(math.log(size / max(chips, 0.5)))), "")


def _arrange(generation: Generation, topology: str) -> Slice:
    if not generation.takes_topologies:
        sizes = ", ".join(_examples(generation))
        raise InputError(f"topology={topology!r}: {generation.chip_name} comes by accelerator type only: {sizes}, …")
    slices = generation.slices
    usual = {slices.layout(size) or "" for size in slices.sizes}
    sides = [int(side) for side in topology.split("x")] if re.fullmatch(r"\d+(x\d+)+", topology) else []
    of_cubes = len(sides) == 3 and all(side > 0 and side % 4 == 0 for side in sides)
    if topology not in usual and not (of_cubes and math.prod(sides) <= slices.most_in_cubes):
        names = ", ".join(sorted(usual)) + (", or three multiples of 4, as 4x4x8" if slices.most_in_cubes else "")
        raise InputError(f"topology={topology!r} does not exist for {generation.chip_name}; choose one of {names}")
    return Slice(generation, math.prod(sides), topology, is_named_by_topology=True)
