"""Scripts in other people's tools, as their documentation has it; each ends with the seconds of its training."""
