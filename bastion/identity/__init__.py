"""Who somebody is: what an issuer says, proven, and the tickets that stand for it for a minute."""
