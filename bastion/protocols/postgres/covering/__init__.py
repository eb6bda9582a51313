"""What of a target's answers is covered, byte by byte, and stays valid for whoever reads it."""
