"""What gateways, devices and the control plane share, and the control plane itself."""

__version__ = "0.1.0"
