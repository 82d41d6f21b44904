"""The whole service on one machine: an embedded S3 and DynamoDB, a published model, and something that serves it."""
