"""Real replies with the verdict of a careful reader; README.md says who made them and how."""
