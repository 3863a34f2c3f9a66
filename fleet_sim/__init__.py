"""A fleet of simulated clients: the same machines as the real programs, on a virtual clock."""
