"""What `tests/gpu/run` stands on: programs with deadlines, readings of the GPU, and the report; one file a part."""

MB = 1 << 20
GB = 1 << 30
