"""The books proved: reconciled, taken into the tree, begun anew after a restore."""
