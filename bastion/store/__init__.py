"""The recordings: written first, chained, checkpointed, and read without being changed."""
