"""Exports: ONNX and OpenVINO files checked against PyTorch, a model card, a Hugging Face Space."""
