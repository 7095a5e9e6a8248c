"""Appliances ask: each request answered, and no word before its commit."""
