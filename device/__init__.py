"""The appliance: keys, camera and lamp outside, one pure till inside."""
