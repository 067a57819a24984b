"""What networks, data and trainings show when they are looked into: numbers, and nothing drawn."""
