"""The effect of training: states, replies and weights before and after, in numbers, words and plots."""
