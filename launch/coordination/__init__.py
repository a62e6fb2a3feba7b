"""How processes that know nothing of each other share a store: launches, heartbeats, leases, and who wrote what."""
