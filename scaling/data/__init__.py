"""Where examples come from, which of them a cell may see, and in what order."""
