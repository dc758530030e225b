"""What `settings.py` reads: the typed inputs, their rules, and what a user is told."""
