"""What web searches have in common, whichever engine answers them."""
