"""What a training consists of: settings, course, checkpoint."""
