"""The commands of `cnntrain data`."""
