"""Everything that knows Ray Tune, MLflow or Arrow."""
