"""The one part of an appliance that runs as root: five requests about the two slots, no more."""
