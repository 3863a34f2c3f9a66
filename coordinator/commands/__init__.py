"""What an operator runs beside the coordinator: one file for each command."""
