"""One adapter per event source."""
