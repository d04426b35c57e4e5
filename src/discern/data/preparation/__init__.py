"""From files to a manifest and an audit: every image decoded once, counted, and compared with the others."""
