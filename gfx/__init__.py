"""gfx: a torch.fx compiler that makes image generators small and fast."""
