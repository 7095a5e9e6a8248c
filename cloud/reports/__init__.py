"""Reports: exports and settlements, read only."""
