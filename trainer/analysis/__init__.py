"""A trained run, loaded and evaluated: metrics, predictions, pictures, cards."""
