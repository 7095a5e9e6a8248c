"""How an appliance becomes somebody and stays so: enrolling, renewing, what lies on the disk."""
