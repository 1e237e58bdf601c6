"""Scripts in other people's tools, written as their documentation has it; each ends with the seconds of its training."""
