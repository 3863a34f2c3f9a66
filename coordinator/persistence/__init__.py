"""What is kept of a run: its ledger, folder and history; where, and how it is found again."""
