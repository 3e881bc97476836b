"""Guards as text: their source read as expressions, and these turned back into something that can be asked."""
