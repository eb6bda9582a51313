"""A command-line bastion: it records, masks, holds and blocks what people and agents do on production systems."""

__version__ = "0.1.0"
