"""How good, fast, large and dear models are on labelled data; thresholds chosen by that.

Measures in processes of its own, with the engines that serve; no running platform is asked.
"""
