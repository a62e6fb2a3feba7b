"""What is left to do: cells as jobs, which of them were begun, roughly how long each takes, and who gets the next."""
