"""`cnntrain data check`: what is wrong with images before anything is trained on them."""
