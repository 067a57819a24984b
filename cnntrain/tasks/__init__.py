"""What targets are and what outputs mean; how they are trained, measured and said."""
