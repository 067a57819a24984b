"""What `cnntrain data check` and `cnntrain data preview` show."""
