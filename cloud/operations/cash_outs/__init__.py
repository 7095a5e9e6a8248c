"""Unspent Credits on their way back to the cards they came from."""
