"""The policy: its document, what it says of an action, and why. Pure but for reading the files it is told to."""
