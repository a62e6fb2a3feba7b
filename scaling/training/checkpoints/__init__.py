"""The state of a job, saved while it runs, proved by checksums, and gone on from."""
