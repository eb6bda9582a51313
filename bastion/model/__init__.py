"""The nouns that every part of bastion shares: pure values, standard library only."""
