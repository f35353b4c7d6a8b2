/* The gradient of 3x3 and 5x5 filters of stride 1, and of 3x3 filters of stride 2, by Winograd: transformed patches times
 * transformed gradients of the result, summed over the tiles for each frequency, then transformed to filters. A piece is a
 * block of filters, of one tap along the depth; it walks through all tiles, some at a time. */
#include "conv/winograd.h"

/* Input and output channels of a piece, at most: its sums, 36 blocks of them, stay within the last-level cache. */
#define FC_WINO_BLOCK 128

/* What is transformed at a time stays within this. */
#define FC_WINO_WEIGHT_BYTES (1536 * 1024)

/* Slices of the tiles where one piece would do it all: each has sums of its own, which are added in the end. */
#define FC_WINO_SLICES 2

/* Rows of filters that are added and written at a time. */
#define FC_WINO_ROWS 8

typedef struct sizes {
  fc_wino_grid grid;
  int64_t ic, oc;             /* channels of a piece, whole panels of lanes and rows */
  int64_t tiles, slices;      /* at a time; how many slices: from the layer alone, as they decide on rounding */
  int64_t columns, v, z, strip, sums, total;
} sizes;

/* Elements from frequency to frequency of n tiles' panels. Vectors that are wider than what is left of a panel run into what
 * follows. */
static int64_t apart(const fc_conv_plan *p, int64_t lanes, int64_t tile, int64_t n) {
  return fc_wino_stride(fc_round_up(lanes, tile) * n + p->kn->vl, p->es);
}

static int strided(const fc_conv_plan *p) { return p->d.stride[1] == 2; }

/* Pixels and values of a patch; pixels from one to the next. */
static int side(const fc_conv_plan *p) { return strided(p) ? FC_WINO2_SIDE : FC_WINO_SIDE; }
static int64_t values(const fc_conv_plan *p) { return strided(p) ? FC_WINO2_VALUES : FC_WINO_FREQUENCIES; }
static int64_t step(const fc_conv_plan *p) { return p->d.stride[1] * fc_wino_step(p); }

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  const fc_conv_desc *d = &p->d;
  const int64_t most_ic = fc_min(fc_round_up(d->icg, kn->nr), FC_WINO_BLOCK),
                most_oc = fc_round_up(fc_min(d->ocg, FC_WINO_BLOCK), kn->mr);
  sizes s = {.grid = fc_wino_tiles(p)};
  s.tiles = fc_max(32, FC_WINO_WEIGHT_BYTES / (values(p) * (most_ic + most_oc) * p->es) / 8 * 8);
  s.tiles = fc_min(s.grid.all, fc_div_up(s.grid.all, fc_div_up(s.grid.all, s.tiles)));
  const int one = d->groups * d->ker[0] == 1 && d->ocg <= FC_WINO_BLOCK && d->icg <= FC_WINO_BLOCK;
  s.slices = one && s.grid.all >= FC_WINO_SLICES * s.tiles ? FC_WINO_SLICES : 1;
  fc_partition(d->ocg, d->icg, kn->mr, kn->nr, most_oc, most_ic, d->groups * d->ker[0] * s.slices, nthreads, FC_ONE_PIECE, &s.oc,
               &s.ic);
  s.columns = fc_wino_columns(&s.grid, s.tiles, step(p), side(p));
  s.v = values(p) * apart(p, s.ic, kn->nr, s.tiles) * p->es;
  s.z = values(p) * apart(p, s.oc, kn->mr, s.tiles) * p->es;
  s.sums = FC_WINO_FREQUENCIES * fc_wino_stride(s.oc * s.ic, p->es) * p->es;
  s.strip = fc_round_up(fc_max(side(p) * s.columns * kn->vl, 2 * s.ic * d->ker[1] * d->ker[2]) * p->es, FC_ALIGN);
  s.total = s.v + s.z + s.strip + (s.slices == 1 ? s.sums : 0);
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
  j->shared = s.slices == 1 ? 0 : s.slices * j->pieces_m * j->pieces_n * s.sums;
  return d->groups * j->pieces_m * j->pieces_n * d->ker[0] * s.slices;
}

/* Tiles t0..t1 of the images x, of whichever slice: panels of nr channels. */
static void transform_patches(const fc_conv_plan *p, const sizes *s, const char *x, int64_t channels, int64_t t0, int64_t t1,
                              char *v, char *strip) {
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es, n = t1 - t0;
  fc_wino_run r;
  for (int64_t c = 0; c < fc_round_up(channels, kn->nr); c += kn->vl)
    for (int64_t t = t0; t < t1; t += r.n) {
      r = fc_wino_run_at(&s->grid, t, t1);
      const fc_strip f = {.strip = strip,
                          .columns = s->columns,
                          .rows = side(p),
                          .count = step(p) * (r.n - 1) + side(p),
                          .src = x + (r.image * d->x_stride[0] + c * d->x_stride[1] + r.slice * d->x_stride[2]) * es,
                          .channels = (int)fc_max(0, fc_min(kn->vl, channels - c)),
                          .high = d->x_size[1],
                          .wide = d->x_size[2],
                          .top = d->stride[1] * r.row - d->pad[1],
                          .left = d->stride[2] * r.column - d->pad[2],
                          .channel = d->x_stride[1],
                          .row = d->x_stride[3],
                          .pixel = d->x_stride[4]};
      fc_wino_strip(p, f);
      const int64_t from = c / kn->nr * kn->nr * n + (t - t0) * kn->nr;
      const fc_wino w = {.strip = strip,
                         .plane = v + ((strided(p) ? 0 : from) + c % kn->nr) * es,
                         .from = from,
                         .single = {1, 1},
                         .columns = s->columns,
                         .step = step(p),
                         .tiles = r.n,
                         .tile = kn->nr,
                         .frequency = apart(p, channels, kn->nr, n)};
      (strided(p) ? kn->wino2_input : kn->wino_input)(&w);
    }
}

/* Tiles t0..t1 of the gradients dy: panels of mr channels. Their vectors go from the last to the first of a panel, so
 * that a later one overwrites what an earlier one stored beyond its lanes. */
static void transform_results(const fc_conv_plan *p, const sizes *s, const char *dy, int64_t channels, int64_t t0, int64_t t1,
                              char *z, char *strip) {
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es, n = t1 - t0;
  fc_wino_run r;
  for (int64_t c = 0; c < channels; c += kn->mr)
    for (int64_t l = (kn->mr - 1) / kn->vl * kn->vl; l >= 0; l -= kn->vl)
      for (int64_t t = t0; t < t1; t += r.n) {
        r = fc_wino_run_at(&s->grid, t, t1);
        const fc_strip f = {.strip = strip,
                            .columns = s->columns,
                            .rows = s->grid.step,
                            .count = s->grid.step * r.n,
                            .src = dy + (r.image * d->y_stride[0] + (c + l) * d->y_stride[1] + r.slice * d->y_stride[2]) * es,
                            .channels = (int)fc_max(0, fc_min(kn->vl, channels - c - l)),
                            .high = d->y_size[1],
                            .wide = d->y_size[2],
                            .top = r.row,
                            .left = r.column,
                            .channel = d->y_stride[1],
                            .row = d->y_stride[3],
                            .pixel = d->y_stride[4]};
        fc_wino_strip(p, f);
        const int64_t from = c * n + (t - t0) * kn->mr;
        const fc_wino w = {.strip = strip,
                           .plane = z + ((strided(p) ? 0 : from) + l) * es,
                           .from = from,
                           .columns = s->columns,
                           .step = s->grid.step,
                           .tiles = r.n,
                           .tile = kn->mr,
                           .frequency = apart(p, channels, kn->mr, n)};
        (strided(p) ? kn->wino2_result : kn->wino_result)(&w);
      }
}

void fc_wino_write_filters(const fc_conv_plan *p, int64_t taps, char *vectors, int64_t channels, char *dw) {
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  const int64_t es = p->es;
  int64_t off[FC_WINO_TAPS], coff[FC_WINO_TAPS];
  int32_t crun[FC_WINO_TAPS];
  for (int64_t t = 0; t < taps; t++) {
    off[t] = t * kn->vl;
    coff[t] = fc_tap_stride(d, t);
  }
  fc_runs(coff, crun, taps);
  /* Filters that lie one after another are transposed where they belong, unless vectors would reach beyond the last. */
  const int there = crun[0] == taps && d->w_stride[1] == taps && 2 * taps >= kn->vl;
  char *transposed = there ? dw : vectors + fc_round_up(channels, kn->vl) * taps * es;
  for (int64_t c = 0; c < channels; c += kn->vl)
    kn->pack(transposed + c * taps * es, (int)taps, (int)taps, vectors + c * taps * es, off, 1, fc_min(kn->vl, channels - c));
  if (there) return;
  if (crun[0] == taps) {
    for (int64_t c = 0; c < channels; c++) memcpy(dw + c * d->w_stride[1] * es, transposed + c * taps * es, (size_t)(taps * es));
    return;
  }
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_block to = {.m = channels,
                       .n = taps,
                       .ep = &plain,
                       .first = 1,
                       .last = 1,
                       .out = {.p = dw, .rs = d->w_stride[1], .coff = coff, .crun = crun}};
  kn->write(transposed, taps, &to);
}

/* Sums, 36 of each filter, to a slice of the filters of one output channel. */
static void write_filters(const fc_conv_plan *p, const char *sums, int64_t frequency, int64_t channels, char *dw, char *strip) {
  const fc_wino w = {.strip = strip,
                     .plane = (char *)sums,
                     .step = fc_wino_step(p),
                     .tiles = fc_div_up(channels, p->kn->vl),
                     .tile = p->kn->vl,
                     .frequency = frequency};
  (strided(p) ? p->kn->wino2_gradient : p->kn->wino_gradient)(&w);
  fc_wino_write_filters(p, p->d.ker[1] * p->d.ker[2], strip, channels, dw);
}

/* A block of the filters: m and n of them from m0 and n0 on, as many numbers in a row of sums, as far apart the frequencies. */
typedef struct block {
  int64_t m0, n0, m, n, whole, frequency;
} block;

static block block_of(const fc_conv_call *j, int64_t index) {
  const fc_conv_plan *p = j->p;
  block b = {.m0 = index % j->pieces_m * j->piece_m, .n0 = index / j->pieces_m * j->piece_n};
  b.m = fc_min(p->d.ocg - b.m0, j->piece_m);
  b.n = fc_min(p->d.icg - b.n0, j->piece_n);
  b.whole = fc_round_up(b.n, p->kn->vl);
  b.frequency = fc_wino_stride(b.m * b.whole, p->es);
  return b;
}

/* Where the filters of a block's row go. */
static char *filters_at(const fc_conv_call *j, const block *b, int64_t group, int64_t tap, int64_t o) {
  const fc_conv_desc *d = &j->p->d;
  return j->result + ((group * d->ocg + b->m0 + o) * d->w_stride[0] + b->n0 * d->w_stride[1] + tap * d->w_stride[2]) * j->p->es;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_conv_desc *d = &p->d;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, (int)j->threads);
  const int64_t es = p->es, slice = index % s.slices, tap = index / s.slices % d->ker[0], blocks = j->pieces_m * j->pieces_n,
                g = index / s.slices / d->ker[0] / blocks;
  const block x = block_of(j, index / s.slices / d->ker[0] % blocks);
  char *v = j->workspace + j->shared + worker * j->scratch, *z = v + s.v, *strip = z + s.z;
  char *sums = s.slices == 1 ? strip + s.strip : j->workspace + index * s.sums;
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  /* The results that do not find this tap in the padding. */
  const int64_t shift = tap * d->dil[0] - d->pad[0], first = fc_max(0, -shift) * s.grid.slice,
                last = fc_min(d->y_size[0], d->x_size[0] - shift) * s.grid.slice, all = fc_max(0, last - first);
  const int64_t from = first + slice * all / s.slices, to = first + (slice + 1) * all / s.slices;
  if (from >= to) memset(sums, 0, (size_t)s.sums);
  for (int64_t t = from, t1; t < to; t = t1) {
    t1 = fc_min(to, t + s.tiles);
    transform_patches(p, &s, j->first + (g * d->icg + x.n0) * d->x_stride[1] * es, x.n, t + shift * s.grid.slice,
                      t1 + shift * s.grid.slice, v, strip);
    transform_results(p, &s, j->second + (g * d->ocg + x.m0) * d->y_stride[1] * es, x.m, t, t1, z, strip);
    for (int f = 0; f < FC_WINO_FREQUENCIES; f++) {
      const fc_wino_values of = fc_wino_values_of(p, f);
      const fc_block b = {.m = x.m,
                          .n = x.whole,
                          .k = of.high * of.wide * (t1 - t),
                          .a = z + of.first * apart(p, x.m, kn->mr, t1 - t) * es,
                          .b = v + of.first * apart(p, x.n, kn->nr, t1 - t) * es,
                          .out = {.p = sums + f * x.frequency * es, .rs = x.whole, .cs = 1},
                          .ep = &plain,
                          .first = t == from,
                          .last = 1};
      kn->block(&b);
    }
  }
  for (int64_t o = 0; o < x.m && s.slices == 1; o++)
    write_filters(p, sums + o * x.whole * es, x.frequency, x.n, filters_at(j, &x, g, tap, o), strip);
}

/* Some rows of a block: the sums of all slices, and the filters that they are. */
static void rows(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const sizes s = size(p, (int)j->threads);
  const int64_t es = p->es, per = fc_div_up(j->piece_m, FC_WINO_ROWS), o0 = index % per * FC_WINO_ROWS;
  const block x = block_of(j, index / per);
  const int64_t o1 = fc_min(x.m, o0 + FC_WINO_ROWS), count = (o1 - o0) * x.whole;
  char *sums = j->workspace + index / per * s.slices * s.sums;
  for (int64_t slice = 1; slice < s.slices && count > 0; slice++)
    for (int f = 0; f < FC_WINO_FREQUENCIES; f++) {
      char *to = sums + (f * x.frequency + o0 * x.whole) * es;
      fc_add(to, to + slice * s.sums, count, es);
    }
  for (int64_t o = o0; o < o1; o++)
    write_filters(p, sums + o * x.whole * es, x.frequency, x.n, filters_at(j, &x, 0, 0, o),
                  j->workspace + j->shared + worker * j->scratch);
}

static int execute(fc_conv_call *j, int nthreads) {
  const int status = fc_parallel_for(nthreads, pieces(j, nthreads), piece, j);
  if (status || !j->shared) return status;
  return fc_parallel_for(nthreads, j->pieces_m * j->pieces_n * fc_div_up(j->piece_m, FC_WINO_ROWS), rows, j);
}

const fc_algorithm fc_conv_weight_winograd_3x3 = {
    .name = "winograd_4x4_3x3",
    .directions = FC_OF_WEIGHTS,
    .parameter = 3,
    .refuse = fc_wino_refuse,
    .pieces = pieces,
    .execute = execute,
    .slow = fc_wino_slow,
    .tile = fc_wino_tile,
};
const fc_algorithm fc_conv_weight_winograd_5x5 = {
    .name = "winograd_2x2_5x5",
    .directions = FC_OF_WEIGHTS,
    .parameter = 5,
    .refuse = fc_wino_refuse,
    .pieces = pieces,
    .execute = execute,
    .slow = fc_wino_slow,
    .tile = fc_wino_tile,
};
const fc_algorithm fc_conv_weight_winograd_strided = {
    .name = "winograd_4x4_3x3_stride2",
    .directions = FC_OF_WEIGHTS,
    .refuse = fc_wino2_refuse,
    .pieces = pieces,
    .execute = execute,
    .slow = fc_wino2_slow,
    .tile = fc_wino_tile,
};
