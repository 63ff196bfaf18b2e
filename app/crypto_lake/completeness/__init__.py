"""What the lake has and what it misses, by trade id: the ledger, and what follows from it."""
