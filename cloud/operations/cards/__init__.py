"""Card payments: rows first, then the provider, and each of its words once."""
