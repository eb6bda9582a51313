"""Where what a statement shows comes from, and what else it does with the columns that are watched."""
