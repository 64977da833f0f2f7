"""What flows: batches, rollouts, reports; GAE and running moments."""
