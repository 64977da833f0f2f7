"""The rings of proof: identity, precision, fairness, decisions."""
