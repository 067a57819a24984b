"""A small local page that shows what a trained network makes of an image, and the same for programs."""
