"""A command-line bastion: it records, holds and blocks what people and agents do on production systems."""

__version__ = "0.1.0"
