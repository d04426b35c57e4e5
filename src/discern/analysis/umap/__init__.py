"""Feature maps: neighbours to layout, and how good a map is."""
