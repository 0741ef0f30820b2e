"""`lens score`: files of responses read, judged, counted and reported."""
