"""Shows what a recipe did as one HTML page."""

__all__: list[str] = []
