"""What the files that cnntrain writes may hold: typed, and checked once, when they are read again."""
