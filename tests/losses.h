/* What losses are, element by element, for the drivers. */
#ifndef LOSSES_H
#define LOSSES_H

#include <math.h>

#include "fastconv.h"

/* Of an element, its target and the factor of that part, with p0 2. */
static inline double loss_of(int kind, double x, double t, double p) {
  const double d = x - t, a = fabs(d);
  switch (kind) {
  case FC_LOSS_MSE: return d * d;
  case FC_LOSS_L1: return a;
  case FC_LOSS_SMOOTH_L1: return a < 2 ? d * d / 4 : a - 1;
  case FC_LOSS_HUBER: return a <= 2 ? d * d / 2 : 2 * (a - 1);
  case FC_LOSS_BINARY: return -t * log(x) - (1 - t) * log(1 - x);
  case FC_LOSS_BINARY_LOGITS: return (1 - t) * x + ((p - 1) * t + 1) * (fmax(-x, 0) + log1p(exp(-fabs(x))));
  case FC_LOSS_KL: return t * (log(t) - x);
  case FC_LOSS_KL_LOG: return exp(t) * (t - x);
  default: return exp(x - t - p);
  }
}

/* By the rise, of numbers that are no kinks: within 1e-8. */
static inline double slope_of_loss(int kind, double x, double t, double p) {
  const double h = 1e-5;
  return (loss_of(kind, x + h, t, p) - loss_of(kind, x - h, t, p)) / (2 * h);
}

#endif
