"""What robustness does to a film's gradient, measured on the test films."""

import jax
import numpy as np

from cxr import attribution, data, localize, measures, saliency
from cxr.subject import Subject
from input_pipeline.findings import BOXED


def alignment(of: Subject) -> list[measures.Measure]:
  """Of film and gradient, per boxed finding: Etmann's and the cosine."""
  rows = of.films(of.config.evaluate.measure_films)
  gradients = attribution.make_attribution(
    of.model, 'gradient', findings=range(len(BOXED))
  )
  over_findings = lambda fn: jax.vmap(
    jax.vmap(fn, in_axes=(None, -1)), in_axes=(0, 0)
  )
  compute = jax.jit(
    lambda image, maps: tuple(
      over_findings(fn)(image, maps)
      for fn in (saliency.alignment, saliency.cosine)
    )
  )

  def both(variables, keys, image):
    image = data.to_unit(image)
    found = compute(image, gradients(variables, keys, image))
    return jax.numpy.stack(found, axis=-2)  # 'b 2 k'

  values = localize.compute_maps(
    both,
    of.variables,
    jax.random.key(of.config.seed),
    of.mesh,
    of.test,
    rows,
    batch_size=of.batch_size,
  )
  return [
    measures.Measure(
      name,
      of.test.image_name[rows],
      of.test.patient[rows],
      np.asarray(values[:, i], np.float64),
      method='gradient',
      findings=BOXED,
    )
    for i, name in enumerate(('alignment', 'cosine'))
  ]
