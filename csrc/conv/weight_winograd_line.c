/* The gradient of filters that are long along one axis alone, or along w and h, by one-dimensional Winograd: transformed
 * patches times transformed gradients of the result, summed over the tiles for each point, then transformed to filters. A
 * piece is a row of taps of a block of filters; it walks through all tiles, some at a time. */
#include "conv/winograd_line.h"

/* Input and output channels of a piece, at most: its sums stay within the last-level cache. */
#define FC_LINE_BLOCK 256

/* What is transformed at a time stays within this. */
#define FC_LINE_WEIGHT_BYTES (1536 * 1024)

typedef struct sizes {
  fc_line_grid grid;
  int64_t ic, oc;             /* channels of a piece, whole panels of lanes and rows */
  int64_t tiles;              /* at a time: from the layer alone, as it decides on rounding */
  int64_t columns, v, z, strip, sums, total;
} sizes;

/* Rows of taps. */
static int64_t rows(const fc_conv_plan *p) { return fc_line_axis(&p->d) == 2 ? p->d.ker[1] : 1; }

/* Elements from point to point of n tiles' panels. Vectors that are wider than what is left of a panel run into what
 * follows. */
static int64_t apart(const fc_conv_plan *p, int64_t lanes, int64_t tile, int64_t n) {
  return fc_wino_stride(fc_round_up(lanes, tile) * n + p->kn->vl, p->es);
}

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  const fc_conv_desc *d = &p->d;
  const int points = fc_line_points(p);
  const int64_t most_ic = fc_min(fc_round_up(d->icg, kn->nr), FC_LINE_BLOCK),
                most_oc = fc_round_up(fc_min(d->ocg, FC_LINE_BLOCK), kn->mr);
  sizes s = {.grid = fc_line_tiles(p, points, d->y_size)};
  s.tiles = fc_max(32, FC_LINE_WEIGHT_BYTES / (points * (most_ic + most_oc) * p->es) / 8 * 8);
  s.tiles = fc_min(s.grid.all, fc_div_up(s.grid.all, fc_div_up(s.grid.all, s.tiles)));
  fc_partition(d->ocg, d->icg, kn->mr, kn->nr, most_oc, most_ic, d->groups * rows(p), nthreads, FC_ONE_PIECE, &s.oc, &s.ic);
  s.columns = fc_line_columns(&s.grid, s.tiles);
  s.v = points * apart(p, s.ic, kn->nr, s.tiles) * p->es;
  s.z = points * apart(p, s.oc, kn->mr, s.tiles) * p->es;
  s.sums = points * fc_wino_stride(s.oc * s.ic, p->es) * p->es;
  s.strip = fc_round_up(fc_max(fc_line_strip(&s.grid, s.tiles) * kn->vl, 2 * s.ic * fc_product3(d->ker) + kn->vl) * p->es,
                        FC_ALIGN);
  s.total = s.v + s.z + s.sums + s.strip;
  return s;
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, nthreads);
  const fc_conv_desc *d = &j->p->d;
  j->piece_m = s.oc;
  j->piece_n = s.ic;
  j->pieces_m = fc_div_up(d->ocg, s.oc);
  j->pieces_n = fc_div_up(d->icg, s.ic);
  j->threads = nthreads;
  j->scratch = s.total;
  return d->groups * rows(j->p) * j->pieces_m * j->pieces_n;
}

/* What is transformed: an image's channels by one of the matrices, to panels of so many lanes. */
typedef struct source {
  const char *p;
  const int64_t *size, *strides;
  int64_t channels, low, shift; /* low: where the first tile starts along the axis; shift: from a line to what is read */
  int lanes, count, matrix;
} source;

/* Tiles t0..t1. A panel's vectors go from the last to the first, so that a later one overwrites what an earlier one stored
 * beyond its lanes. */
static void transform(const fc_conv_plan *p, const sizes *s, const source *x, int64_t t0, int64_t t1, char *to, char *strip) {
  const fc_kernels *kn = p->kn;
  const fc_line_grid *g = &s->grid;
  const int64_t es = p->es, n = t1 - t0;
  fc_line_run r;
  for (int64_t c = 0; c < x->channels; c += x->lanes)
    for (int64_t l = (x->lanes - 1) / kn->vl * kn->vl; l >= 0; l -= kn->vl)
      for (int64_t t = t0; t < t1; t += r.n) {
        r = fc_line_run_at(g, t, t1);
        r.line[1] += x->shift;
        const int inside = r.line[1] >= 0 && r.line[1] < x->size[1];
        fc_strip f = fc_line_read(g, &r, x->low, x->count, s->columns, x->size, x->strides);
        f.strip = strip;
        f.src = inside ? x->p + (fc_line_at(g, &r, x->strides) + (c + l) * x->strides[1]) * es : 0;
        f.channels = inside ? (int)fc_max(0, fc_min(kn->vl, x->channels - c - l)) : 0;
        kn->wino_strip(&f);
        const fc_line w = {.from = strip,
                           .matrix = fc_line_matrix(p, x->matrix),
                           .to = to + (c * n + (t - t0) * x->lanes + l) * es,
                           .from_element = fc_line_element(g, s->columns) * kn->vl,
                           .from_tile = fc_line_pitch(g) * kn->vl,
                           .to_element = apart(p, x->channels, x->lanes, n),
                           .to_tile = x->lanes,
                           .tiles = r.n,
                           .points = g->points,
                           .count = x->count};
        kn->line_to(&w);
      }
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, (int)j->threads);
  const int points = s.grid.points, taps = (int)d->ker[s.grid.axis];
  const int64_t es = p->es, per = j->pieces_m * j->pieces_n, row = index / per % rows(p), g = index / per / rows(p);
  const int64_t m0 = index % per % j->pieces_m * j->piece_m, m = fc_min(d->ocg - m0, j->piece_m);
  const int64_t n0 = index % per / j->pieces_m * j->piece_n, n = fc_min(d->icg - n0, j->piece_n);
  const int64_t whole = fc_round_up(n, kn->vl), point = fc_wino_stride(m * whole, es);
  char *v = j->workspace + worker * j->scratch, *z = v + s.v, *sums = z + s.z, *strip = sums + s.sums;
  const source x = {.p = j->first + (g * d->icg + n0) * d->x_stride[1] * es,
                    .size = d->x_size,
                    .strides = d->x_stride,
                    .channels = n,
                    .low = -d->pad[s.grid.axis],
                    .shift = s.grid.axis == 2 ? row * d->dil[1] - d->pad[1] : 0,
                    .lanes = kn->nr,
                    .count = points,
                    .matrix = FC_LINE_PATCHES};
  const source dy = {.p = j->second + (g * d->ocg + m0) * d->y_stride[1] * es,
                     .size = d->y_size,
                     .strides = d->y_stride,
                     .channels = m,
                     .lanes = kn->mr,
                     .count = (int)s.grid.step,
                     .matrix = FC_LINE_RESULTS};
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  for (int64_t t = 0, t1; t < s.grid.all; t = t1) {
    t1 = fc_min(s.grid.all, t + s.tiles);
    transform(p, &s, &x, t, t1, v, strip);
    transform(p, &s, &dy, t, t1, z, strip);
    for (int64_t f = 0; f < points; f++) {
      const fc_block b = {.m = m,
                          .n = whole,
                          .k = t1 - t,
                          .a = z + f * apart(p, m, kn->mr, t1 - t) * es,
                          .b = v + f * apart(p, n, kn->nr, t1 - t) * es,
                          .out = {.p = sums + f * point * es, .rs = whole, .cs = 1},
                          .ep = &plain,
                          .first = t == 0,
                          .last = 1};
      kn->block(&b);
    }
  }
  for (int64_t o = 0; o < m; o++) {
    const fc_line w = {.from = sums + o * whole * es,
                       .matrix = fc_line_matrix(p, FC_LINE_FILTERS),
                       .to = strip,
                       .from_element = point,
                       .from_tile = kn->vl,
                       .to_element = kn->vl,
                       .to_tile = taps * kn->vl,
                       .tiles = fc_div_up(n, kn->vl),
                       .points = points,
                       .count = taps};
    kn->line_from(&w);
    const int64_t to = (g * d->ocg + m0 + o) * d->w_stride[0] + n0 * d->w_stride[1] + fc_tap_stride(d, row * taps);
    fc_wino_write_filters(p, taps, strip, n, j->result + to * es);
  }
}

static const char *refuse(const fc_conv_plan *p) {
  const char *reason = fc_line_refuse(p);
  return reason || p->d.ker[fc_line_axis(&p->d)] <= FC_CHOOSE_LINE_TAPS_WEIGHT ? reason
                                                                               : "gradients of so many taps round too much";
}

FC_LINE_ALGORITHMS(fc_conv_weight_winograd_line, .directions = FC_OF_WEIGHTS, .refuse = refuse, .pieces = pieces, .run = piece);
