"""What is about images alone: from their files and arrays to what a network takes of them."""
