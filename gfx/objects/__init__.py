"""Objects that a model takes or returns: taken apart by fields, and put together again."""
