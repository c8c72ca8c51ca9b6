"""What async applications call; the names are those of the package root."""
