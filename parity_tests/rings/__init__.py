"""The four kinds of proof: identity, precision, fairness, decisions."""
