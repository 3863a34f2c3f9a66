"""Rounds whose answers nobody can read one by one: what the coordinator does about masks."""
