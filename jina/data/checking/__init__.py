"""The check of rows and images, chunk by chunk, in one process or several."""
