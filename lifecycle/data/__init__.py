"""From text to token shards: documents are read, cleaned, told apart, split and tokenized, one at a time."""
