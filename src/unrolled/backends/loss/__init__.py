"""Losses that save memory, for frameworks that would keep every intermediate array."""
