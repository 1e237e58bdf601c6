"""A run that was trained, loaded, and what is made of it: numbers, predictions, pictures, cards."""
