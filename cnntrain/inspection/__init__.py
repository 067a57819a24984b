"""Looking at data before training: what is wrong with them, and what a network would see of them."""
