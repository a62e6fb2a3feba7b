"""What runs and their laws decide: optimal sizes, frontiers, best settings, crossings, gains, which runs to do next."""
