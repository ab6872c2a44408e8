"""The control plane: what people and machines do to campaigns, over HTTP, and what they can see."""
