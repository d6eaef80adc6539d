"""The deck's theory, made to run: one file a topic, each with a function of its own name that gives a `page.Topic`.

Figures that mathematics predicts stand beside those that are measured.
"""

__all__ = [
  'baselines', 'collapse', 'diffusion', 'elbo_forms', 'em', 'estimators', 'flows', 'impossibility',
  'information_preference', 'ladder', 'mean_field', 'receptive_field', 'surgery',
]  # fmt: skip
