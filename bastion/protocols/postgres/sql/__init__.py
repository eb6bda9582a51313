"""What a SQL text would do: read by PostgreSQL's own parser, resolved in the catalog, told as an `Action`."""
