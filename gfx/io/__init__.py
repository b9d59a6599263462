"""Files and data: archives of programs, recipes as text, batches and images."""
