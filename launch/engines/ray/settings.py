"""What is asked of Ray."""

from typing import Any

from pydantic import Field, model_validator

from scaling.specs.base import Spec


class Settings(Spec):
    """What is asked of Ray.

    Attributes:
      address: of the cluster: HOST:PORT, `ray://HOST:PORT` from a machine that is not part of it, or `auto` for the one
        that this machine belongs to. None starts one of this machine alone, which ends with this command.
      hosts: machines of an allocation, each another; more than one train every cell together.
      num_cpus: the number of CPUs of each; an agent starts a worker for every one where no accelerators are asked for.
      num_gpus: the number of GPUs of each.
      memory: the memory of each, in bytes; 0 for any.
      resources: others of each by Ray's names, for example `{"TPU": 4}`.
      topology: the topology of a TPU slice, for example `4x4`, whose machines are an allocation.
      accelerator: generation of that slice: `v4`, `v5litepod`, `v5p`, `v6e`, …
      runtime_env: Ray's own, where machines lack this package or the store's credentials: `working_dir`, `pip`, …
      grace_seconds: that an agent has to save when it is told to stop.
    """

    address: str | None = None
    hosts: int = Field(default=1, ge=1)
    num_cpus: int = Field(default=1, ge=1)
    num_gpus: int = Field(default=0, ge=0)
    memory: int = Field(default=0, ge=0)
    resources: dict[str, float] = Field(default_factory=dict)
    topology: str | None = None
    accelerator: str | None = None
    runtime_env: dict[str, Any] = Field(default_factory=dict)
    grace_seconds: float = Field(default=30.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if (self.topology is None) != (self.accelerator is None):
            raise ValueError("topology and accelerator belong together: topology=4x4 and accelerator=v6e, for example")
        if self.topology is not None and self.hosts > 1:
            raise ValueError(f"hosts={self.hosts}: the hosts of a TPU slice follow from its topology; leave hosts out")
        for name, amount in self.resources.items():
            if name in ("CPU", "GPU", "memory") or amount <= 0:
                raise ValueError(
                    f"resources.{name}={amount:g}: must be above 0, and neither CPU, GPU nor memory, which are settings"
                )
        return self

    @property
    def has_accelerators(self) -> bool:
        """Whether GPUs or TPUs are asked for."""
        return self.num_gpus > 0 or self.topology is not None or "TPU" in self.resources

    def needs(self) -> dict[str, float]:
        """Returns what is asked of each machine, in Ray's names."""
        all_ = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory, **self.resources}
        return {name: float(amount) for name, amount in all_.items() if amount}
