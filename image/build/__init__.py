"""Builds the image: Debian's packages, our firmware, two slots, one file."""
