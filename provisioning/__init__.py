"""From a box to a stall: certificates, the broker's files, the ops commands."""
