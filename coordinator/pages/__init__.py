"""What the coordinator tells people: the status pages."""
