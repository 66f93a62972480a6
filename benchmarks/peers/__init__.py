"""The libraries that ddim is compared with, each used as its own documentation shows."""
