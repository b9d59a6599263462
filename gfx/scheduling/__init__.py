"""Steps the masks and penalties of a model while a user's own loop trains it."""
