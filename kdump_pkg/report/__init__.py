"""The report as text and as a page: pure, from the frozen Report."""
