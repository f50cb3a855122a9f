"""Texts that travel with the package, so that nothing is downloaded."""
