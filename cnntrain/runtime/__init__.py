"""The machine: devices, precision, random numbers."""
