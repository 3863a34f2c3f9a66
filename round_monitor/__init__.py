"""Watching a federation: in a terminal, as a picture, as a page. Reads topics and run folders."""
