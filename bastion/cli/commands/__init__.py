"""The commands, by who uses them; each module is imported when one of its commands runs."""
