"""The HTTP edge: one router a resource."""
