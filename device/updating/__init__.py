"""What an appliance does about an update: decided without clock, network, disk or slots."""
