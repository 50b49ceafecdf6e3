"""The providers that texts leave by: one module each, over one HTTP client."""
