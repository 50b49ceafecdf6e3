"""What the gateway knows and decides: pure values and functions, without I/O, clock or environment."""
