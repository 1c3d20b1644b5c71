"""The demo: a page that runs the detector on an image, a webcam or a video."""
