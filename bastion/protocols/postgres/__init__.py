"""PostgreSQL: the frontend/backend protocol 3, and SQL as PostgreSQL itself reads it."""
