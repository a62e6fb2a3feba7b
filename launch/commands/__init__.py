"""One file for each word that people type: its arguments, and what it does with them."""
