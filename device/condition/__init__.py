"""How the appliance is, for a person who asks it."""
