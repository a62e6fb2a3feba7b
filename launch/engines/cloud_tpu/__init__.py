"""The Cloud TPU engine: queued resources, each a slice or several, whose hosts start agents and end by themselves."""

from launch.engines.cloud_tpu.engine import Settings, connect, find

__all__ = ["Settings", "connect", "find"]
