"""The default limits and thresholds, where they can be had without importing the models."""

LIMITS: dict[str, int] = {
    "config_bytes": 1 << 20,
    "index_bytes": 128 << 20,
    "header_bytes": 100_000_000,
    "header_bytes_in_all": 200_000_000,
    "json_depth": 64,
    "json_values": 8_000_000,
    "json_values_in_all": 10_000_000,
    "tensors_per_shard": 600_000,
    "tensors": 600_000,
    "name_bytes": 512,
    "name_bytes_in_all": 64 << 20,
    "shards": 10_000,
    "files": 100_000,
    "layers": 1_000,
    "experts": 4_096,
    "expected_tensors": 600_000,
}

THRESHOLDS: dict[str, float] = {
    "equal_values": 8,
    "heavy_value": 65_536.0,
    "light_median": 2.0**-30,
    "far_exponents": 0.5,
    "scale_above": 128.0,
    "scale_below": 64.0,
    "kind_apart": 64.0,
    "impossible_scale": 2.0**20,
    "zero_rows": 0.0625,
    "doubled_rows": 0.05,
    "code_runs": 1_024,
    "small_codes": 0.10,
}
