"""Other people's runs, from W&B, MLflow, TensorBoard or a table, saved as they came and mapped to the tidy table."""

TABLES = ("csv", "tsv", "json", "jsonl", "parquet", "excel")  # kinds of files that are one table
