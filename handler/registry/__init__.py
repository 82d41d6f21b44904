"""Where models come from: names, manifests, the S3 store and the verified loader."""
