"""How fast updates, products and steps are."""
