"""What robust rules have in common: the changes as rows, how many may be hostile, what comes first.

The rules themselves are strategies, in `coordinator/aggregation/`.
"""
