"""How good images are: what is seen in them, and how far that is from what is seen in real ones."""
