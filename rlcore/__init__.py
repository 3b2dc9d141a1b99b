"""Tasks, reward shapes and a jitted PPO trainer.  JAX only: no Ray, no MLflow."""
