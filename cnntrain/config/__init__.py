"""The configuration: reading it, and saying what is wrong with it. Options stand beside what they build."""
