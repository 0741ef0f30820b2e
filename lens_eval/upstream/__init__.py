"""What hangs on the inner parts of lm_eval: it is here that a new version of it breaks something."""
