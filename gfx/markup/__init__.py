"""What HTML pages and plots share."""
