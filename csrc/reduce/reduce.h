/* What reduce/run.c and kernels/reduce.inc agree on.
 *
 * Kernels see blocks in which every operand is contiguous or one and the same number along the vectors: what lies otherwise is
 * copied first. Sums of the elements and moments are added in double, whatever the elements are. All else is computed in the
 * elements' own type, twice as many of float32 at once: exponentials and products, whose sums go into double every few terms, and
 * what is made of each element. */
#ifndef FC_REDUCE_H
#define FC_REDUCE_H

#include <stdint.h>

/* What a block is reduced to: two numbers for each of its results, which have room for whole vectors. */
enum {
  FC_FOLD_SUM,                 /* the sum of in[0]; and nothing */
  FC_FOLD_MOMENTS,             /* the mean; and the sum of (in[0] - mean)^2 */
  FC_FOLD_SQUARES,             /* 0; and the sum of in[0]^2 */
  FC_FOLD_MOST,                /* the largest of sign * in[0], a NaN before all; and nothing that means anything */
  FC_FOLD_PLACE,               /* the same; and its place in the row, or the row, the first of equals */
  FC_FOLD_GRADIENTS,           /* the sums of g = in[0] w; and of g (in[1] - m) s */
  FC_FOLD_EXP,                 /* the sum of exp(in[0] - centre); and nothing */
  FC_FOLD_DOT,                 /* of in[0] in[1]; and nothing */
};

/* What becomes of each element, of whose result the reduction made a pair of numbers. */
enum {
  FC_EACH_AFFINE,              /* ((in[0] - m) s) w + b */
  FC_EACH_NORMAL,              /* ((in[0] - first) second) w + b */
  FC_EACH_NORMAL_GRADIENT,     /* (g - first - h second) s b, where g = in[0] w, h = (in[1] - m) s */
  FC_EACH_SOFTMAX,             /* exp(in[0] - first) second */
  FC_EACH_LOG_SOFTMAX,         /* in[0] - first - second */
  FC_EACH_SOFTMAX_GRADIENT,    /* in[1] (in[0] - first) */
  FC_EACH_LOG_SOFTMAX_GRADIENT, /* in[0] - exp(in[1]) first */
};

enum { FC_REDUCE_LANES = 256 }; /* results of a block, at most */

/* Names of operands. */
enum { FC_MEAN = 2, FC_RSTD = 3, FC_WEIGHT = 4, FC_SHIFT = 5, FC_OPERANDS = 6 };

/* rows rows of count elements. across: the elements of a row belong to results of their own, and rows are reduced; else all rows
 * become one result (of a place: there is one row), and there are several such results. */
typedef struct fc_reduce_block {
  int across;
  int more;                    /* sums are added to those that there are */
  int kept;                    /* exponentials that are summed go to out, where SOFTMAX finds them */
  int64_t results;             /* 1 if across */
  int64_t rows, count;
  const void *in[FC_OPERANDS];
  int64_t step[FC_OPERANDS], row[FC_OPERANDS]; /* from element to element, 1 or 0; from row to row */
  int64_t next[FC_OPERANDS];   /* from result to result */
  void *out;                   /* its elements are neighbours */
  int64_t out_row, out_next;
  const double *first, *second; /* of each result; FOLD: first is the centre */
  double sign;
} fc_reduce_block;

/* Of two numbers with their places the larger, the first of equals; a NaN is larger than what is none. */
static inline void fc_take_extreme(double *value, double *place, double other, double its_place, int always) {
  const int nan = other != other, before = its_place < *place;
  if (always || (*value != *value ? nan && before : nan || other > *value || (other == *value && before))) {
    *value = other;
    *place = its_place;
  }
}

#endif
