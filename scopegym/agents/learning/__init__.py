"""Training of policies. Only this package needs PyTorch, stable-baselines3 or Ray."""
