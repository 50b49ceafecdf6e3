"""The providers that texts leave by: a folder each, over one HTTP client; all names stand in :mod:`gateway.providers.names`."""
