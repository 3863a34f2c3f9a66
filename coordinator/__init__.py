"""The program that runs rounds: `rounds/` decides, `service.py` does."""
