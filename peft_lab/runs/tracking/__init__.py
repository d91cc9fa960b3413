"""A run is also told to the trackers that people have: MLflow and trackio."""
