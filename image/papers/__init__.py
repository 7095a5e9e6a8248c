"""The papers of an image: what is in it, what is new in it, and whether it can be built again."""
