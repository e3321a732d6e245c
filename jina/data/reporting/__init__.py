"""What is said of checked files: figures, and the report that shows them."""
