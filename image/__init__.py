"""The appliance's operating system: one image to flash, bundles to update it, and their papers."""
