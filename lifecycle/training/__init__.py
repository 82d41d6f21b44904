"""Training GPT-2 from scratch on a folder of plain-text books: corpus, tokenizer, loop, evaluation, curve."""
