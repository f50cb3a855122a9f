"""Passes through time as graphs: operations recorded once and started again as a whole."""
