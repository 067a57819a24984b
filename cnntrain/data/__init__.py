"""Data preparation: from options to three splits, one preprocessing and one class list."""
