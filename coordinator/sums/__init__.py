"""From answers to the next model: each is counted once, and the sum is exact."""
