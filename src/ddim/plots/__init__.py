"""What all figures and tables share: a canvas in pixels, small panels, and numbers as text."""
