"""Staff of an event: their badges and PINs."""
