"""Opens sums of masks: `rules.py` decides which, `book.py` remembers, `program.py` does it."""
