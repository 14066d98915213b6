"""Writes a trained generator for others: a folder with its card, an ONNX graph, a torch.export program; run reads folders."""
