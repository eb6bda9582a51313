"""The daemon: accepts, admits, judges, records, asks people, relays, and answers the control API."""
