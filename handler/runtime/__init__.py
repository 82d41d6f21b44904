"""What only Lambda's runtime asks for."""
