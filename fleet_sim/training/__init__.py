"""Local training of many simulated clients: in groups, in several processes, or on Ray."""
