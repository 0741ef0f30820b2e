"""What training did: states, replies and weights before and after, in numbers, words and plots."""
