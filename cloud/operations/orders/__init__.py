"""Tickets: ordered, held, paid, closed, given back, checked at the door."""
