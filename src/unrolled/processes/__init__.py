"""Processes that train one model together: their places, their meeting, starting them."""
