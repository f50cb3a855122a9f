"""Processes that train together: how they are started, meet, and notice each other's end."""
