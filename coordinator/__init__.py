"""The program that runs rounds: `rounds.py` decides, `service.py` does."""
