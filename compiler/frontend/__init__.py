"""Readers of model files: the road from ONNX protobuf to the graph IR."""
