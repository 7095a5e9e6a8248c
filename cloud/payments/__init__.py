"""Card providers behind one small protocol."""
