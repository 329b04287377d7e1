"""Training a policy: what needs PyTorch, stable-baselines3 or Ray lives here, and only here."""
