"""What is kept in S3, in the results bucket: files, uploads, batches, jobs and results; no database."""
