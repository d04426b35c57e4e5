"""The files of a data set as published: found at a place, or fetched."""
