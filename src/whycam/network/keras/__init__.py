"""Keras 3 models on every backend. Nothing above `network` knows of them: see `network.adapted`.

Layers are tapped when Keras calls them (`calls`), never by building another graph, so nested, functional, sequential
and subclassed models, shared layers and layers called several times are all the same. One file for each backend, with
the same names in each, carries tensors over and follows gradients.
"""
