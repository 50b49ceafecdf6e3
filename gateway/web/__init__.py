"""The web: providers' webhooks and the API on the public port, health and metrics on a port of their own."""
