"""Parts of a training: settings, course, checkpoint."""
