"""Pictures of what a trained system gives."""
