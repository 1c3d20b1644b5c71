"""Surveys: the share of faces with a mask by place and time, corrected for the detector's errors."""
