"""A recipe from its YAML file to results folders: planned, checked, trained, evaluated, gone on with."""
