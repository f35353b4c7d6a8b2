"""Named problems: each is something that a kernel could get wrong."""
