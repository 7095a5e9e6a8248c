"""`railtix-pos selftest`: walks a person through the parts, and looks at what surrounds them."""
