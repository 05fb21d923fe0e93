"""embed=compact: a small embedder of our own, bundled."""
