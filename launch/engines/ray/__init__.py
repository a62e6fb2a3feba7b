"""The Ray engine: allocations on a Ray cluster that exists, or on one of this machine alone."""

from launch.engines.ray.engine import connect
from launch.engines.ray.settings import Settings

__all__ = ["Settings", "connect"]
