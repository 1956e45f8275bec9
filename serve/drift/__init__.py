"""Drift: are the rows of late like those that the version was published with?"""
