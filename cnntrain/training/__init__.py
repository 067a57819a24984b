"""How a network is trained: loss, optimizer, schedule, averaging, early stopping."""
