"""What telemetry measures, in the native kernels, as ``measures/<framework>.py``."""
