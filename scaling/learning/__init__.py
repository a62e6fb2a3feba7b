"""One optimiser step: objectives and their losses, schedules, update rules, and pre-training before the first step."""
