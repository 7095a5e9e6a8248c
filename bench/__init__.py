"""Benchmarks, one command each: a table on the terminal, the same figures as JSON in results/."""
