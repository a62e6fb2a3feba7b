"""What runs on every machine: the agent, its worker processes, and how they train a job into the store."""
