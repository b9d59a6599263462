"""Renders results for people: HTML pages, figures, tables."""
