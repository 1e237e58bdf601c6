"""A run is assembled, trained, saved and gone on with; the one room that trains."""
