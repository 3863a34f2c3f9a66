"""Everything about the broker: its configuration, and starting one where none is running yet."""
