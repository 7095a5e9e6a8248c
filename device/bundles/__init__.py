"""Bundles on the appliance's disk: fetched, kept, let go; and what was decided about them."""
