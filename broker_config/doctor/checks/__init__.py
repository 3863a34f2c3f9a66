"""One check each, named as in the report."""
