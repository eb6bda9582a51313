"""What an operator asks for: whether the set-up holds together, and whether its masks hold."""
