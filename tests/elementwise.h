/* What elementwise functions are, number by number, for the drivers. */
#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H

#include <math.h>

#include "fastconv.h"

#define GELU_TANH (2 * sqrt(2 / acos(-1)))
#define SELU_ALPHA 1.6732632423543772848
#define SELU_SCALE 1.0507009873554804934

static double sigmoid_of(double v) { return 1 / (1 + exp(-v)); }

/* Parameters for an activation of this kind. */
static inline fc_act some_act(int kind) {
  fc_act act = {kind, 0, 0};
  switch (kind) {
  case FC_ACT_LEAKY_RELU:
  case FC_ACT_ELU:
  case FC_ACT_CELU: act.p0 = 0.5; break;
  case FC_ACT_CLIP:
    act.p0 = -4;
    act.p1 = 9;
    break;
  case FC_ACT_SOFTPLUS: /* no sum of whole numbers is near where it becomes another function */ act.p0 = 2; act.p1 = 19;
  }
  return act;
}

static double activate(const fc_act *act, double v) {
  switch (act->kind) {
  case FC_ACT_RELU: return v > 0 ? v : 0;
  case FC_ACT_LEAKY_RELU: return v > 0 ? v : v * act->p0;
  case FC_ACT_CLIP: return fmin(act->p1, fmax(act->p0, v));
  case FC_ACT_SIGMOID: return sigmoid_of(v);
  case FC_ACT_TANH: return tanh(v);
  case FC_ACT_SILU: return v * sigmoid_of(v);
  case FC_ACT_HARDSWISH: return v * (v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6;
  case FC_ACT_GELU: return 0.5 * v * erfc(-v / sqrt(2));
  case FC_ACT_GELU_TANH: return v * sigmoid_of(GELU_TANH * (v + 0.044715 * v * v * v));
  case FC_ACT_MISH: return v * tanh(fmax(v, 0) + log1p(exp(-fabs(v))));
  case FC_ACT_SOFTPLUS: return v * act->p0 > act->p1 ? v : (fmax(v * act->p0, 0) + log1p(exp(-fabs(v * act->p0)))) / act->p0;
  case FC_ACT_LOGSIGMOID: return fmin(v, 0) - log1p(exp(-fabs(v)));
  case FC_ACT_ELU: return v > 0 ? v : act->p0 * expm1(v);
  case FC_ACT_SELU: return SELU_SCALE * (v > 0 ? v : SELU_ALPHA * expm1(v));
  case FC_ACT_CELU: return v > 0 ? v : act->p0 * expm1(v / act->p0);
  case FC_ACT_HARDSIGMOID: return (v < -3 ? 0 : v > 3 ? 6 : v + 3) / 6;
  case FC_ACT_EXP: return exp(v);
  case FC_ACT_SOFTSIGN: return v / (1 + fabs(v));
  case FC_ACT_ABS: return fabs(v);
  case FC_ACT_SQRT: return sqrt(v);
  case FC_ACT_LOG: return log(v);
  case FC_ACT_ERF: return erf(v);
  default: return v;
  }
}

/* By the rise, of numbers that are no kinks: within 1e-8. */
static inline double slope_of(const fc_act *act, double v) {
  const double h = 1e-5;
  return (activate(act, v + h) - activate(act, v - h)) / (2 * h);
}

static inline int operands_of(int op) {
  return op == FC_MAP_ACTIVATE                                                                     ? 1
         : op == FC_MAP_SCALE_SHIFT || op == FC_MAP_PRELU_BACKWARD || op >= FC_MAP_DIVIDE_BACKWARD ? 3
                                                                                                   : 2;
}

static inline double map_of(int op, const fc_act *act, double a, double b, double c) {
  switch (op) {
  case FC_MAP_ACTIVATE: return activate(act, a);
  case FC_MAP_ACTIVATE_BACKWARD: return act->kind == FC_ACT_NONE ? a : a * slope_of(act, b);
  case FC_MAP_ADD: return a + b;
  case FC_MAP_SUBTRACT: return a - b;
  case FC_MAP_MULTIPLY: return a * b;
  case FC_MAP_DIVIDE: return a / b;
  case FC_MAP_MAXIMUM: return a > b ? a : b;
  case FC_MAP_MINIMUM: return a < b ? a : b;
  case FC_MAP_SCALE_SHIFT: return a * b + c;
  case FC_MAP_PRELU: return a > 0 ? a : a * b;
  case FC_MAP_PRELU_BACKWARD: return b > 0 ? a : a * c;
  case FC_MAP_PRELU_SLOPE: return b > 0 ? 0 : a * b;
  case FC_MAP_DIVIDE_BACKWARD: return -a * b / (c * c);
  case FC_MAP_MAXIMUM_BACKWARD: return b < c ? 0 : b == c ? a / 2 : a;
  default: return b > c ? 0 : b == c ? a / 2 : a;
  }
}

#endif
