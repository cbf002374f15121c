"""The pages that people see: what the API says, in the look of the report, readable without a script."""
