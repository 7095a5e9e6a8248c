"""The commands of railtix-ops."""
