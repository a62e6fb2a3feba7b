"""TPU slices by the names that Google Cloud gives them: how many chips and hosts each has, where, and at what price."""

import dataclasses
import math
import re

from scaling.devices.hardware import PRICES_DATED, Chip, find_chip
from scaling.specs.base import InputError, suggest

FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
SMALL_CUBES = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4"}
CUBE = 64  # chips of a rack of v4 and later, of which larger slices are made

CORES = "cores"  # what the number in v4-16 counts; in v6e-16 it is chips


@dataclasses.dataclass(frozen=True)
class Generation:
    """One kind of TPU, as Google Cloud offers it.

    Attributes:
      chip: its name in the table of chips.
      prefix: of its accelerator types.
      counts: what the number in an accelerator type counts: `cores`, two a chip, or `chips`.
      api_type: its name where a topology is asked for; empty where none can be.
      runtime: software version of its machines; empty where it has no machines but in GKE.
      chips_per_host: of slices of several hosts.
      most_on_one_host: chips of the largest slice on one host.
      sizes: numbers of chips that there are; for `cubes`, the small ones.
      cubes: whether there are multiples of 64 chips too, up to so many.
      zones: as documented in 2025.
      gke: its name among GKE's node labels; empty where GKE does not have it.
    """

    chip: str
    prefix: str
    counts: str
    api_type: str
    runtime: str
    chips_per_host: int
    most_on_one_host: int
    sizes: tuple[int, ...]
    cubes: int
    zones: tuple[str, ...]
    gke: str


# Accelerator types, software versions and zones: cloud.google.com/tpu/docs (pages on each version, "TPU software
# versions" and "TPU regions and zones"); GKE's names: cloud.google.com/kubernetes-engine/docs/concepts/tpus.
GENERATIONS = (
    Generation(
        "v2", "v2", CORES, "", "tpu-ubuntu2204-base", 4, 4, (4, 16, 64, 128, 256), 0,
        ("us-central1-b", "us-central1-c", "europe-west4-a", "asia-east1-c"), "",
    ),
    Generation(
        "v3", "v3", CORES, "", "tpu-ubuntu2204-base", 4, 4, (4, 16, 32, 64, 128, 256, 512, 1024), 0,
        ("us-central1-a", "us-central1-b", "europe-west4-a"), "",
    ),
    Generation(
        "v4", "v4", CORES, "V4", "tpu-ubuntu2204-base", 4, 4, tuple(SMALL_CUBES), 4096, ("us-central2-b",),
        "tpu-v4-podslice",
    ),
    Generation(
        "v5e", "v5litepod", "chips", "V5LITE_POD", "v2-alpha-tpuv5-lite", 4, 8, tuple(FLAT), 0,
        ("us-central1-a", "us-south1-a", "us-west1-c", "us-west4-a", "europe-west4-b"), "tpu-v5-lite-podslice",
    ),
    Generation(
        "v5p", "v5p", CORES, "V5P", "v2-alpha-tpuv5", 4, 4, tuple(SMALL_CUBES), 6144,
        ("us-central1-a", "us-east5-a", "europe-west4-b"), "tpu-v5p-slice",
    ),
    Generation(
        "v6e", "v6e", "chips", "V6E", "v2-alpha-tpuv6e", 4, 8, tuple(FLAT), 0,
        ("us-central1-b", "us-east1-d", "us-east5-a", "us-east5-b", "europe-west4-a", "asia-northeast1-b"),
        "tpu-v6e-slice",
    ),
    Generation("tpu7x", "tpu7x", "chips", "", "", 4, 4, tuple(SMALL_CUBES), 9216, (), "tpu7x"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Slice:
    """So many chips that are joined by their own links.

    Attributes:
      generation: of the chips.
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
        count = self.chips * (2 if self.generation.counts == CORES else 1)
        return f"{self.generation.prefix}-{count}"

    @property
    def chips_per_host(self) -> int:
        """Chips that each of its machines has."""
        generation = self.generation
        return self.chips if self.chips <= generation.most_on_one_host else generation.chips_per_host

    @property
    def hosts(self) -> int:
        """Machines that it has."""
        return self.chips // self.chips_per_host

    @property
    def chip(self) -> Chip:
        """What the table knows of its chips."""
        return find_chip(self.generation.chip)


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
                f"{accelerator!r}; give one of the two, as accelerator={generation.chip} topology={topology}"
            )
        return made
    if not found[2]:
        raise InputError(
            f"accelerator={accelerator!r} says no size; give one, as {_examples(generation)[1]!r}, or a topology"
        )
    number = int(found[2])
    chips = number / 2 if generation.counts == CORES else number
    if chips not in generation.sizes and not (generation.cubes and 0 < chips <= generation.cubes and not chips % CUBE):
        raise InputError(
            f"accelerator={accelerator!r} does not exist: {generation.prefix}'s number counts {generation.counts}; the "
            f"nearest is {_nearest(generation, chips).accelerator_type!r}"
        )
    return Slice(generation, int(chips), _usual_topology(generation, int(chips)))


def price_of(found: Slice, given: float | None) -> tuple[float | None, str]:
    """Returns dollars a chip-hour, None where not known, and where they come from in words."""
    if given is not None:
        return given, "yours"
    price = found.chip.price_per_hour
    if price is None:
        return None, "not known; give price_per_chip_hour"
    return price, f"the list's of {PRICES_DATED}, on demand; give price_per_chip_hour where yours differs"


def _find_generation(name: str) -> Generation | None:
    return next((one for one in GENERATIONS if name in (one.prefix, one.chip)), None)


def _examples(only: Generation | None = None) -> list[str]:
    """Returns accelerator types that there are, small ones."""
    chosen = [one for one in GENERATIONS if only in (None, one)]
    return [Slice(one, chips, "").accelerator_type for one in chosen for chips in one.sizes[:6]]


def _nearest(generation: Generation, chips: float) -> Slice:
    cubes = range(CUBE, generation.cubes + 1, CUBE)
    return Slice(
        generation, min([*generation.sizes, *cubes], key=lambda size: abs(math.log(size / max(chips, 0.5)))), ""
    )


def _usual_topology(generation: Generation, chips: int) -> str:
    """Returns how so many chips are arranged unless one asks for another way; empty where there is no usual one."""
    if generation.counts == "chips" and generation.chip != "tpu7x":
        return FLAT[chips]
    if not generation.cubes or chips in SMALL_CUBES:
        return SMALL_CUBES[chips] if generation.cubes else ""
    sides = [4, 4, 4]  # doubled in turn, from the last
    for place in range(20):
        if math.prod(sides) == chips:
            return "x".join(map(str, sides))
        sides[2 - place % 3] *= 2
    return ""


def _arrange(generation: Generation, topology: str) -> Slice:
    if not (generation.api_type or generation.gke):
        sizes = ", ".join(_examples(generation))
        raise InputError(f"topology={topology!r}: {generation.chip} comes by accelerator type only: {sizes}, …")
    is_flat = not generation.cubes
    valid = set(FLAT.values()) if is_flat else set(SMALL_CUBES.values())
    sides = [int(side) for side in topology.split("x")] if re.fullmatch(r"\d+(x\d+)+", topology) else []
    of_cubes = not is_flat and len(sides) == 3 and all(side > 0 and side % 4 == 0 for side in sides)
    if topology not in valid and not (of_cubes and math.prod(sides) <= generation.cubes):
        names = ", ".join(sorted(valid)) + ("" if is_flat else ", or three multiples of 4, as 4x4x8")
        raise InputError(f"topology={topology!r} does not exist for {generation.chip}; choose one of {names}")
    return Slice(generation, math.prod(sides), topology, is_named_by_topology=True)
