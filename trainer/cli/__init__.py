"""How commands begin, are parsed, checked, explained and ended; what a terminal shows."""
