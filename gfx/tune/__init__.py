"""What training needs."""
