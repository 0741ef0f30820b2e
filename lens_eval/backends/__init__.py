"""What lm_eval's backends lack: fast greedy replies, one-token choices, steering, refusals, an end."""
