"""Labels and detections in, numbers with intervals out. Knows no runs, no files but images, and no pages."""
