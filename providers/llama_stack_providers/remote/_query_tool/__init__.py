"""Tools that hand one query to a vendor's service: shared by every such provider."""
