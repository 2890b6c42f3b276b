"""What the simulator knows of its posterior: the joint density, and of Gaussian maps the marginal one."""
