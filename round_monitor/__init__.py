"""Watching a federation: in a terminal, as a picture, as a report. Reads status topics and run folders only."""
