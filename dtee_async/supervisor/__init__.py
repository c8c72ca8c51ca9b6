"""Many commands at once: their lives, their files, their end."""
