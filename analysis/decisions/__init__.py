"""What fitted laws decide: optimal sizes, frontiers, crossings, gains, and which runs to do next."""
