"""Labels and detections in, numbers with intervals out. Knows no runs, no files but pictures, and no pages."""
