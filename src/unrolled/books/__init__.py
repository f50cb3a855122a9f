"""Names that published books use, where they differ from the library's own."""
