"""A small parser of faces of our own, for blend=parsing."""
