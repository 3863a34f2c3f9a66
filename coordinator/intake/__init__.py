"""Between the broker and the round machine: who is heard, how much, and who is shut out."""
