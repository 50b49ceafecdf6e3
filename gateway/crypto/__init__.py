"""Keys and what is made with them: the key ring, sealing, keyed hashes and tokens."""
