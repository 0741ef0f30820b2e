"""In which language a text is written: languages, scripts, detectors, verdicts, and how often they err."""
