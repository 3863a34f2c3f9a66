"""Differential privacy: what is promised to each device, what it takes, and what is spent."""
