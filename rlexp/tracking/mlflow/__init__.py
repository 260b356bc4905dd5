"""The MLflow tracker; nothing else imports mlflow."""
