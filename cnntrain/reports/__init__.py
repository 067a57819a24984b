"""Pages, comparisons and pictures for people."""
