"""What is wrong with a run, or probably not meant, before it begins: the same table explored."""
