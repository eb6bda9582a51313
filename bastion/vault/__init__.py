"""Where the credentials of targets come from. They leave only towards the target they are for."""
