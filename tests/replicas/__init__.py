"""Replicas of the data sets' own layouts: true file names and counts, tiny pictures, every known quirk.

One module per data set, each with ``make(root, scale=1.0, traps=True)``: it fills the folder ``root`` and
returns the number of images of each class that it wrote, at the scale 1.0 those of the data set. ``traps``
adds what archives and file managers leave behind: Thumbs.db, __MACOSX, suffixes in upper case.
"""
