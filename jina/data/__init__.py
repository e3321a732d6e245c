"""From the user's JSONL lines and image files to checked samples with pixels."""
