"""What a trained model is worth: numbers, images, and a page that says what they rest on."""
