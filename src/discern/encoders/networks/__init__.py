"""Networks that no library builds whole; each is used through the route ``python``."""
