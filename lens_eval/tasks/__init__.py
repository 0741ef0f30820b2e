"""The tasks: words, prompts, items, answers and their scores, and the class that lm_eval runs."""
