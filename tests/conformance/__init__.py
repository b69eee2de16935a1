"""ONNX's own test cases through the pipelines of optc."""
