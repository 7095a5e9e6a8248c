"""The one part of an appliance that runs as root: four requests about the two slots, no more."""
