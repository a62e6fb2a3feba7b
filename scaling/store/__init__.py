"""What is kept: records, the store of a study, attempts, rows of the table, files and the cache."""
