"""Accuracy, speed, size and cost of models on labelled data, and thresholds chosen by them.

Measured in separate processes with the engines that serve; no running platform is needed.
"""
