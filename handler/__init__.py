"""All that runs in the image, and nothing else."""
