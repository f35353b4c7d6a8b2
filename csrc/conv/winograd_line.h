/* What the one-dimensional Winograd algorithms share: layers whose kernel is longer than 1 along one axis alone, or along w
 * and h: then it is applied along w, and the sum goes over the rows of the kernel as it does over channels. */
#ifndef FC_WINOGRAD_LINE_H
#define FC_WINOGRAD_LINE_H

#include "conv/winograd.h"

/* Matrices, which are all that a plan knows besides, in elements of its dtype: of patches, of results, of filters. */
enum { FC_LINE_PATCHES, FC_LINE_RESULTS, FC_LINE_FILTERS, FC_LINE_MATRICES };
#define FC_LINE_STATE (FC_LINE_MATRICES * FC_LINE_POINTS * FC_LINE_POINTS * sizeof(double))

/* Tiles of a result, in the order of their numbers: images, lines, tiles along the axis; where that is not w, the positions
 * along w are innermost, and what is one tile of a line is so of all lines beside it. */
typedef struct fc_line_grid {
  int axis, points;
  int64_t step;               /* results of a tile */
  int64_t lines[2], high, wide, all;
} fc_line_grid;

/* The axis; -1 where there is none. */
static inline int fc_line_axis(const fc_conv_desc *d) {
  const int long_d = d->ker[0] > 1, long_h = d->ker[1] > 1, long_w = d->ker[2] > 1;
  return long_d ? (long_h || long_w ? -1 : 0) : long_w ? 2 : long_h ? 1 : -1;
}

static inline fc_line_grid fc_line_tiles(const fc_conv_plan *p, int points, const int64_t size[3]) {
  const int axis = fc_line_axis(&p->d);
  fc_line_grid g = {.axis = axis, .points = points, .step = points + 1 - p->d.ker[axis]};
  const int64_t along = fc_div_up(size[axis], g.step);
  g.lines[0] = size[axis == 0];
  g.lines[1] = axis == 2 ? size[1] : 1;
  g.high = axis == 2 ? 1 : along;
  g.wide = axis == 2 ? along : size[2];
  g.all = p->d.n * g.lines[0] * g.lines[1] * g.high * g.wide;
  return g;
}

/* The parameter of the algorithms. */
static inline int fc_line_points(const fc_conv_plan *p) { return p->algorithm->parameter; }

static inline fc_tile_side fc_line_tile(const fc_conv_plan *p, int dimension) {
  const int points = fc_line_points(p);
  const int64_t taps = p->d.ker[dimension];
  return dimension == fc_line_axis(&p->d) ? (fc_tile_side){points + 1 - taps, points} : (fc_tile_side){1, taps};
}

/* Tiles that lie beside each other: n of them from (row, column) of a line. */
typedef struct fc_line_run {
  int64_t image, line[2], row, column, n;
} fc_line_run;

static inline fc_line_run fc_line_run_at(const fc_line_grid *g, int64_t tile, int64_t end) {
  const int64_t column = tile % g->wide, row = tile / g->wide, line = row / g->high;
  return (fc_line_run){.image = line / g->lines[1] / g->lines[0],
                       .line = {line / g->lines[1] % g->lines[0], line % g->lines[1]},
                       .row = row % g->high,
                       .column = column,
                       .n = fc_min(g->wide - column, end - tile)};
}

/* Where a run's line starts in an array. */
static inline int64_t fc_line_at(const fc_line_grid *g, const fc_line_run *r, const int64_t s[5]) {
  return r->image * s[0] + r->line[0] * s[2 + (g->axis == 0)] + r->line[1] * s[3];
}

/* Vectors of a strip's rows, from one tile to the next, and from one element of a tile to the next. */
static inline int64_t fc_line_columns(const fc_line_grid *g, int64_t tiles) {
  const int64_t n = fc_min(g->wide, tiles);
  return g->axis == 2 ? g->step * (n - 1) + g->points : n;
}
static inline int64_t fc_line_pitch(const fc_line_grid *g) { return g->axis == 2 ? g->step : 1; }
static inline int64_t fc_line_element(const fc_line_grid *g, int64_t columns) { return g->axis == 2 ? 1 : columns; }
static inline int64_t fc_line_strip(const fc_line_grid *g, int64_t tiles) {
  return fc_line_columns(g, tiles) * (g->axis == 2 ? 1 : g->points);
}

/* What a run's tiles of count elements, first tiles' first at position low along the axis, read of an image. */
fc_strip fc_line_read(const fc_line_grid *g, const fc_line_run *r, int64_t low, int count, int64_t columns, const int64_t size[3],
                      const int64_t strides[5]);

/* Why an algorithm of so many points is not applied; 0 where it can be. */
const char *fc_line_refuse(const fc_conv_plan *p);

/* Why it should not: another is faster. */
const char *fc_line_slow(const fc_conv_plan *p);

/* The plan's matrices. */
void fc_line_prepare(fc_conv_plan *p);
const void *fc_line_matrix(const fc_conv_plan *p, int which);

/* An algorithm for each number of points; what else it has is its direction's. */
#define FC_LINE_ALGORITHM(symbol, points, ...)                              \
  const fc_algorithm symbol##_##points = {.name = "winograd_line_" #points, \
                                          .state = FC_LINE_STATE,           \
                                          .parameter = points,              \
                                          .prepare = fc_line_prepare,       \
                                          .slow = fc_line_slow,             \
                                          .tile = fc_line_tile,             \
                                          __VA_ARGS__}
#define FC_LINE_ALGORITHMS(symbol, ...)      \
  FC_LINE_ALGORITHM(symbol, 6, __VA_ARGS__); \
  FC_LINE_ALGORITHM(symbol, 8, __VA_ARGS__); \
  FC_LINE_ALGORITHM(symbol, 10, __VA_ARGS__)

#endif
