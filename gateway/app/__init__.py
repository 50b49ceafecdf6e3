"""Where objects are wired together: the only place that knows every part."""
