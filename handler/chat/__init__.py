"""From a conversation to the prompt a model continues, by a template that is code and is treated as such."""
