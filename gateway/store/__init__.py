"""PostgreSQL: the only place that speaks SQL. One module and one .sql file a chapter of the flow."""
