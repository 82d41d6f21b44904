"""Which target when: what a function, a GPU service and both together cost for given traffic, and how fast they are."""
