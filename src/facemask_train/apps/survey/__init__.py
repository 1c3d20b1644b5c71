"""Surveys: how many faces wear a mask, by place and time, corrected for the detector's errors."""
