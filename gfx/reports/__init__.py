"""What people look at: HTML pages, figures, tables."""
