"""The generated messages and stub of the typed service; `proto/generate` writes them."""
