"""The deck's theory, made to run: one file a topic, each with a function of its own name that gives a `page.Topic`.

Figures that mathematics predicts stand beside those that are measured.
"""
