"""The ledger: what is decided, without clock, network, disk or chance."""
