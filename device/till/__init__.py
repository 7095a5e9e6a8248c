"""The till: no clock, no network, no hardware; every decision of the appliance."""
