"""The GKE engine: allocations are JobSets on a Kubernetes cluster, which Kueue may queue."""

from launch.engines.gke.engine import Settings, connect, find

__all__ = ["Settings", "connect", "find"]
