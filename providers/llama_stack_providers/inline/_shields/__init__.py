"""What the shields of this package share: what a finding leads to, and how settings are laid over one another."""
