"""The fused recurrent layers of frameworks, cuDNN on GPUs, as ``cudnn/<framework>.py``."""
