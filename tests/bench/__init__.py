"""Measures bastion beside pgbouncer and the bare target, in one run: `python -m tests.bench`."""
