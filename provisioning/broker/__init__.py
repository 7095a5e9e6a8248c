"""The broker's files: configuration, access list, limits."""
