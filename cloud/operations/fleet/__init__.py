"""Events, appliances, staff, policies and keys: what ops set up."""
