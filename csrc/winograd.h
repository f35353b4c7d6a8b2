/* What the Winograd algorithms share: tiles of the result, and the patches of the image that they need. */
#ifndef FC_WINOGRAD_H
#define FC_WINOGRAD_H

#include "conv.h"

/* Sides of a patch: 4 x 4 results of 3 x 3 taps, or 2 x 2 of 5 x 5. */
enum { FC_WINO_SIDE = 6, FC_WINO_FREQUENCIES = FC_WINO_SIDE * FC_WINO_SIDE, FC_WINO_TAPS = 25 };

/* Results of a tile along a side. */
static inline int64_t fc_wino_step(const fc_conv_plan *p) { return FC_WINO_SIDE + 1 - p->d.ker[1]; }

/* Elements from one frequency of so many to the next: an odd number of lines, so that what a transform reads or writes at a
 * time, one line a frequency, does not meet in a few sets of the caches. */
static inline int64_t fc_wino_stride(int64_t elements, int64_t es) {
  return (fc_div_up(elements * es, FC_ALIGN) | 1) * FC_ALIGN / es;
}

/* Tiles along a side. Results that have the same remainder by the dilation see no others' pixels: each remainder has tiles
 * of its own. The first so many of them, long, have one result more than the others, and tiles[1], not tiles[0]. */
typedef struct fc_wino_side {
  int64_t apart, size, longer, tiles[2], all;
} fc_wino_side;

static inline fc_wino_side fc_wino_side_of(int64_t size, int64_t apart, int64_t step) {
  const int64_t least = size / apart, longer = size % apart;
  const int64_t tiles[2] = {fc_div_up(least, step), fc_div_up(least + 1, step)};
  return (fc_wino_side){apart, size, longer, {tiles[0], tiles[1]}, longer * tiles[1] + (apart - longer) * tiles[0]};
}

/* Of tile number i: its first result, and how many tiles its remainder has from it on. */
static inline int64_t fc_wino_side_at(const fc_wino_side *s, int64_t i, int64_t step, int64_t *left) {
  const int64_t first = s->longer * s->tiles[1], of = s->tiles[i < first], from = i < first ? i : i - first;
  *left = of - from % of;
  return (i < first ? 0 : s->longer) + from / of + from % of * step * s->apart;
}

/* Tiles of an image: rows, columns; of all images. */
typedef struct fc_wino_grid {
  int64_t step, all;
  fc_wino_side high, wide;
} fc_wino_grid;

static inline fc_wino_grid fc_wino_tiles(const fc_conv_plan *p) {
  const int64_t step = fc_wino_step(p);
  const fc_wino_side high = fc_wino_side_of(p->dst[1], p->d.dil[1], step), wide = fc_wino_side_of(p->dst[2], p->d.dil[2], step);
  return (fc_wino_grid){step, p->d.n * high.all * wide.all, high, wide};
}

/* Pixels in a row of a strip for at most so many tiles. */
static inline int64_t fc_wino_columns(const fc_wino_grid *g, int64_t tiles) {
  return g->step * fc_min(g->wide.tiles[g->wide.longer > 0], tiles) + FC_WINO_SIDE - g->step;
}

/* n tiles side by side, whose first result is at (row, column) of an image. */
typedef struct fc_wino_run {
  int64_t image, row, column, n;
} fc_wino_run;

static inline fc_wino_run fc_wino_run_at(const fc_wino_grid *g, int64_t tile, int64_t end) {
  const int64_t line = tile / g->wide.all;
  int64_t left;
  fc_wino_run r = {.image = line / g->high.all, .row = fc_wino_side_at(&g->high, line % g->high.all, g->step, &left)};
  r.column = fc_wino_side_at(&g->wide, tile % g->wide.all, g->step, &left);
  r.n = fc_min(left, end - tile);
  return r;
}

/* Why taps x taps filters are not applied so; 0 where they can be. */
static inline const char *fc_wino_refuse(const fc_conv_plan *p, int64_t taps) {
  const fc_conv_desc *d = &p->d;
  if (d->ker[0] != 1 || d->ker[1] != taps || d->ker[2] != taps || d->in[0] != 1 || d->out[0] != 1 || d->pad[0] != 0)
    return taps == 3 ? "the kernel is not 3x3" : "";
  if (d->stride[1] != 1 || d->stride[2] != 1) return "the stride is not 1";
  if (d->strict) return "strict precision takes direct algorithms only";
  return 0;
}

/* With fewer channels on either side, or tiles, the transforms cost more than they save; so do tiles that are mostly empty,
 * for which the direct algorithms would make fewer than twice as many products. */
static inline const char *fc_wino_slow(const fc_conv_plan *p) {
  const int channels = 12, tiles = p->d.packed ? 3 : 4;
  const int64_t all = fc_wino_tiles(p).all;
  if (p->sc < channels || p->dc < channels) return "too few channels to pay for the transforms";
  if (all < tiles) return "too few tiles to pay for transforming the filters";
  if (p->d.n * p->dst[1] * p->dst[2] * fc_product3(p->d.ker) < 2 * FC_WINO_FREQUENCIES * all) return "the tiles are mostly empty";
  return 0;
}

/* Which tap is where in the filter that wino_weights transforms. */
void fc_wino_order(const fc_conv_plan *p, int order[FC_WINO_TAPS]);

/* Fills a strip, as wino_strip does, with pixels as far apart as the taps are. */
void fc_wino_strip(const fc_conv_plan *p, fc_strip s);

/* A run's patches, VL channels from one of a group's on: from the image over w's strip to its plane. */
void fc_wino_patches(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel);

/* A run's results likewise: from w's plane over its strip to the image, with bias, residual and activation. */
void fc_wino_results(const fc_conv_call *j, const fc_wino *w, const fc_wino_run *r, int64_t group, int64_t channel);

/* One output channel's filters, a vector of channels a tap, to dw; behind the vectors there is room for one more than as
 * many. */
void fc_wino_write_filters(const fc_conv_plan *p, char *vectors, int64_t channels, char *dw);

#endif
