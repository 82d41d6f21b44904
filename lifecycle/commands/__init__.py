"""The commands of the command line: what a person types in, calls of the library, and what the person sees."""
