"""Scripts in other people's tools, as their documentation writes them; the last line of each is seconds of training."""
