"""What a trained model is worth: numbers, pictures, and a page that says what they rest on."""
