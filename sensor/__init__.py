"""An eBPF live container sensor: every exec with its whole argv, its container, and EQL rules."""

__version__ = "0.1.0"
