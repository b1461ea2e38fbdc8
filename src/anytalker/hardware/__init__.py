"""How a model is placed on a device, and what makes it faster there."""
