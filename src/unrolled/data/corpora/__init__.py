"""Texts inside the package, so that nothing is downloaded."""
