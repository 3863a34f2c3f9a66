"""Differential privacy: what noise costs in privacy, and exact noise. Arithmetic alone."""
