"""Rules about shapes and dtypes (SHP)."""
