"""Tickets: stock and order rules, without clock, network, disk or chance."""
