"""What a cold start is measured with: a store, its throttle, programs that start, and what the kernel knows of them."""
