"""Models as bytes: on disk, on the broker, in a store."""
