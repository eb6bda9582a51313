"""The leak test: a scratch schema full of canaries, and every way we know of to get one past a mask."""
