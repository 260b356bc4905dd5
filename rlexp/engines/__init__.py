"""What advances N trials: the host engine for any environment, the fused engine for tensor dynamics."""
