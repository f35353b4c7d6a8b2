/* What the two halves of the look at a call's values share (see range.c). */
#ifndef FC_RANGE_H
#define FC_RANGE_H

#include "core/check.h"
#include "conv/winograd.h"

/* Elements of the source from which on a second thread is worth waking. */
#define FC_RANGE_SERIAL (1 << 18)

/* Parts that the sums over a gradient's tiles are made in. */
#define FC_RANGE_PARTS 16

/* The least and the largest sum of a tile, so that nothing made of it overflows, or loses bits by being small; the largest sum of
 * filters. */
#define FC_RANGE_LOW 0x1p-64
#define FC_RANGE_HIGH 0x1p64
#define FC_RANGE_LOW64 0x1p-512
#define FC_RANGE_HIGH64 0x1p512
#define FC_RANGE_FILTERS 0x1p48
#define FC_RANGE_FILTERS64 0x1p480

static inline int fc_range_strided_back(const fc_conv_plan *p) { return p->d.direction == FC_BWD_INPUT && p->d.stride[1] == 2; }

/* Along a dimension, where a tile's pixels start whose first result is given. */
static inline int64_t fc_range_source(const fc_conv_plan *p, int i, int64_t result) {
  const fc_axis *a = &p->phases[0].ax[i];
  if (i && fc_range_strided_back(p)) return fc_wino2_source(p, i, result);
  return result * a->src_step + fc_min(a->off[0], a->off[a->ntap - 1]);
}

static inline double fc_range_number(const void *at, int64_t i, int64_t es) {
  return es == 4 ? ((const float *)at)[i] : ((const double *)at)[i];
}

/* A look at the values of a call. x: the source of a result, or of a gradient of filters; y: that gradient's other operand.
 * rows: of tiles, down all images. */
typedef struct fc_range_look {
  const fc_conv_call *call;
  fc_wino_side side[3];
  int64_t rows, buffer;
  char *x, *y, *buffers, *spread;
  unsigned char *flags;
  int64_t *counts;
  int32_t *list;
  double *parts;
} fc_range_look;

static inline int64_t fc_range_images(const fc_conv_plan *p) { return p->d.n * p->d.groups; }

/* Taps that are rows of their own, and those that a row's tiles are for. */
static inline int64_t fc_range_tap_rows(const fc_conv_plan *p, int i) { return p->range.side[i].step > 1 ? 1 : p->d.ker[i]; }
static inline int64_t fc_range_taps(const fc_conv_plan *p, int i) { return p->d.ker[i] / fc_range_tap_rows(p, i); }

/* What a part of the rows of tiles adds to a row of taps: the products of what tiles hold of both operands, tiles beyond the
 * range, and of each tap the products of what it multiplies. */
static inline int64_t fc_range_part_size(const fc_conv_plan *p) { return 2 + fc_product3(p->d.ker); }

/* Groups' rows of taps. */
static inline int64_t fc_range_tap_parts(const fc_conv_plan *p) {
  return p->d.groups * fc_range_tap_rows(p, 0) * fc_range_tap_rows(p, 1) * fc_range_tap_rows(p, 2);
}

/* Of row number index of tiles, which image, and along d and h the first result, and how many there are. */
static inline int64_t fc_range_row_at(const fc_range_look *l, int64_t index, int64_t first[2], int64_t count[2]) {
  const fc_conv_plan *p = l->call->p;
  int64_t left;
  for (int i = 1; i >= 0; i--) {
    const fc_wino_side *s = &l->side[i];
    const int64_t step = p->range.side[i].step;
    first[i] = fc_wino_side_at(s, index % s->all, step, &left);
    count[i] = fc_min(step, fc_div_up(s->size - first[i], s->apart));
    index /= s->all;
  }
  return index;
}

/* A row of the sums of an image's pixels; NULL in the padding. */
static inline const char *fc_range_row_of(const fc_conv_plan *p, const char *sums, const int64_t size[3], int64_t image,
                                          int64_t d, int64_t h) {
  if (!fc_between(d, 0, size[0] - 1) || !fc_between(h, 0, size[1] - 1)) return 0;
  return sums + ((image * size[0] + d) * size[1] + h) * size[2] * p->es;
}

/* Of an array (n, channel, d, h, w) the magnitudes of each group's channels, added up. */
int fc_range_norms(const fc_conv_plan *p, const char *from, const int64_t size[3], const int64_t strides[5], int64_t channels,
                   char *to, int nthreads);

/* weight_range.c: a call that makes a gradient of filters. */
int fc_range_weight_run(fc_range_look *l, int nthreads);

#endif
