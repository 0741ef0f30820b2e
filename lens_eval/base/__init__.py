"""What every room stands on: errors, progress, files, settings, statistics. Knows no torch and no lm_eval."""
