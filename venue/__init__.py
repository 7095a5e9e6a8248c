"""A whole venue on one machine: starts the programs, plays phone and staff."""
