"""Send runs to experiment trackers: MLflow and trackio."""
