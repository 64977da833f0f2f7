"""Training compiled whole: environment, rollout and update in one program."""
