"""How a job is run: what changes its speed and memory, and its results by rounding alone; no part of a cell."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from scaling.specs.base import Spec

# How checkpoints are kept where nobody says otherwise: seconds between two, and how many of the newest stay.
CHECKPOINT_SECONDS, NUM_CHECKPOINTS = 600.0, 2


class MeshSpec(Spec):
    """Devices along each axis of the mesh.

    Attributes:
      population: members of a population, side by side.
      data: examples of a batch; parameters are on each.
      fsdp: examples of a batch; parameters and the optimiser's state are divided among them.
      tensor: columns and rows of matrices, and heads.
    """

    population: PositiveInt = 1
    data: PositiveInt = 1
    fsdp: PositiveInt = 1
    tensor: PositiveInt = 1

    @property
    def num_devices(self) -> int:
        """The devices of the whole mesh."""
        return self.population * self.data * self.fsdp * self.tensor

    @property
    def batch_shards(self) -> int:
        """The parts that a batch is divided into."""
        return self.data * self.fsdp


class Execution(Spec):
    """How a job is run.

    Attributes:
      population: cells that are trained together, the members of one compiled program.
      loop: many steps a call (`scan`), or one (`step`).
      chunk_steps: the most steps between two looks at the clock, at signals and at losses; None lets their time decide.
      micro_batches: parts of a batch that pass one after another; their gradients are added up.
      scan_blocks: whether equal blocks are compiled once and run in a loop.
      remat: what the backward pass computes again: nothing, all but the products of matrices (`dots`), or whole blocks.
      attention: scores at once (`plain`), in blocks that skip what a causal mask hides, or the device's `fused` kernel.
      convolution: a sum of shifted matrix products, or XLA's own (`native`).
      cross_entropy: `plain`, or `lean`, with a backward pass that keeps the logits alone.
      mesh: devices.
    """

    population: PositiveInt = 1
    loop: Literal["scan", "step"] = "scan"
    chunk_steps: PositiveInt | None = None
    micro_batches: PositiveInt = 1
    scan_blocks: bool = False
    remat: Literal["none", "dots", "full"] = "none"
    attention: Literal["auto", "plain", "blocked", "fused"] = "auto"
    convolution: Literal["auto", "products", "native"] = "auto"
    cross_entropy: Literal["auto", "plain", "lean"] = "auto"
    mesh: Annotated[MeshSpec, Field(description="devices")] = MeshSpec()

    def alone(self) -> "Execution":
        """Returns the execution of one cell by itself."""
        mesh = self.mesh.model_copy(update={"population": 1})
        return self.model_copy(update={"population": 1, "mesh": mesh})


DEFAULT = Execution()
