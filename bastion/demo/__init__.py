"""A complete bastion on one machine for looking at: provider, database and gateway, gone when it ends."""
