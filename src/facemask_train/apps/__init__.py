"""What a trained model is used for: predict, survey, demo, export. Prints nothing, and decides no scores."""
