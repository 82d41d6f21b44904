"""Work that nobody waits for: batches, jobs, and files of any size; by the same code that answers requests."""
