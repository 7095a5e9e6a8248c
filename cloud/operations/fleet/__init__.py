"""Appliances: entered, moved, released, retired; and the keys they check answers with."""
