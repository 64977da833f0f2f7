"""What is learned: training studies, ablations, peers."""
