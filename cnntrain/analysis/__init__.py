"""What a trained network shows of itself: tensors in, tensors and numbers out. Nothing is drawn here."""
