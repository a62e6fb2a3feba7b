"""The forms: what a law is, every law by name, laws of whole curves under their schedules."""
