"""Claims, and the certificates that are given for them."""
