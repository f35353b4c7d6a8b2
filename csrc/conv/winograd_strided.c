/* 3x3 layers of stride 2 by Winograd: along a side, taps 0 and 2 by F(4, 2), and tap 1 as it is; 81 products in the place
 * of 144 (kernels/winograd_strided.inc). There are only 36 filters, six a side: five for the values 0 to 4 of a patch's line,
 * and one that multiplies the values 5 to 8. A value that no result of a cut tile wants is not multiplied. */
#include "conv/winograd.h"

/* Transformed patches and products of a piece stay within this, where that leaves enough tiles to reuse filters. */
#define FC_WINO2_BYTES (1024 * 1024)
#define FC_WINO2_TILES 36

/* The values of a line that a tile wants, a bit each. Of its results so many belong to the pair of taps, and to the single
 * tap; the last value of the pair is the last result's. */
static int wanted(int64_t pair, int64_t single) {
  return (pair > 0 ? (1 << (FC_WINO2_PAIR - 1)) - 1 : 0) | (pair > 3) << (FC_WINO2_PAIR - 1) |
         ((1 << single) - 1) << FC_WINO2_PAIR;
}

typedef struct sizes {
  int64_t sc, dc;             /* channels, whole vectors */
  fc_wino_grid grid;
  int64_t piece;              /* tiles of a piece, at most */
  fc_wino_cut cut;
  int64_t step;               /* of the source's pixels, from tile to tile */
  int64_t columns;            /* pixels of a strip's rows */
  int64_t v, m, strip, tables, total;
} sizes;

static sizes size(const fc_conv_plan *p, int nthreads) {
  const fc_kernels *kn = p->kn;
  sizes s = {.sc = fc_round_up(p->src_channels, kn->vl), .dc = fc_round_up(p->dst_channels, kn->nr), .grid = fc_wino_tiles(p)};
  int64_t most = FC_WINO2_BYTES / (FC_WINO2_VALUES * (s.sc + s.dc) * p->es) / kn->mr * kn->mr;
  most = fc_max(most, fc_round_up(FC_WINO2_TILES, kn->mr));
  const int64_t share = fc_div_up(s.grid.all * p->d.groups, nthreads > 1 ? 3 * nthreads : 1);
  s.piece = fc_max(kn->mr, fc_min(most, fc_round_up(share, kn->mr)));
  s.cut = fc_wino_cut_of(s.grid.all, s.piece, kn->mr, nthreads);
  s.step = 12 - s.grid.step;
  s.columns = fc_wino_columns(&s.grid, s.piece, 8, FC_WINO2_SIDE);
  s.v = FC_WINO2_VALUES * fc_wino_stride(s.piece * s.sc, p->es) * p->es;
  s.m = FC_WINO2_VALUES * fc_wino_stride(s.piece * s.dc, p->es) * p->es;
  s.strip = fc_round_up(FC_WINO2_SIDE * s.columns * kn->vl * p->es, FC_ALIGN);
  s.tables = fc_round_up(s.piece * (16 * (int64_t)(sizeof(void *) + sizeof(int64_t)) + 2 * (int64_t)sizeof(int)), FC_ALIGN);
  s.total = s.v + s.m + s.strip + s.tables;
  return s;
}

static void piece(void *ctx, int64_t index, int worker) {
  const fc_conv_call *j = ctx;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes s = size(p, j->threads);
  const int back = p->d.direction == FC_BWD_INPUT;
  const int64_t es = p->es, g = index / s.cut.count;
  const int64_t t0 = fc_wino_cut_at(&s.cut, index % s.cut.count), t1 = fc_wino_cut_at(&s.cut, index % s.cut.count + 1),
                n = t1 - t0;
  const int64_t patches = fc_wino_stride(n * s.sc, es), products = fc_wino_stride(n * s.dc, es); /* of a value */
  char *v = j->workspace + worker * j->scratch, *m = v + s.v, *strip = m + s.m;
  const void **at = (const void **)(strip + s.strip);
  int64_t *to = (int64_t *)(at + 16 * s.piece);
  int *high = (int *)(to + 16 * s.piece), *wide = high + s.piece;
  fc_wino w = {.strip = strip,
               .columns = s.columns,
               .step = s.step,
               .tile = s.sc,
               .frequency = patches,
               .single = {!back || !(p->d.pad[1] & 1), !back || !(p->d.pad[2] & 1)}};
  fc_wino_run r;
  for (int64_t t = t0; t < t1; t += r.n) {
    r = fc_wino_run_at(&s.grid, t, t1);
    const fc_wino_run from = {r.slice, r.image, fc_wino2_source(p, 1, r.row), fc_wino2_source(p, 2, r.column), r.n};
    w.from = (t - t0) * s.sc;
    w.tiles = r.n;
    for (int64_t c = 0; c < p->src_channels; c += kn->vl) {
      w.plane = v + c * es;
      fc_wino_read(j, &w, (int)s.step + 1, &from, g, c);
      kn->wino2_input(&w);
    }
  }
  for (int64_t t = t0; t < t1; t++) {
    r = fc_wino_run_at(&s.grid, t, t + 1);
    for (int i = 0; i < 2; i++) {
      const int64_t results = fc_min(s.grid.step, p->dst_size[1 + i] - (i ? r.column : r.row));
      const int64_t single = back ? (results + !w.single[i]) / 2 : results;
      (i ? wide : high)[t - t0] = wanted(back ? results - single : results, single);
    }
  }
  const fc_epilogue plain = {1, 0, 0, 0, FC_ACT_NONE, 0, 0};
  const fc_view none = {0}, out = {.p = m, .roff = to, .cs = 1};
  for (int f = 0; f < FC_WINO_FREQUENCIES; f++) {
    const int y = f / FC_WINO_SIDE, x = f % FC_WINO_SIDE;
    const fc_wino_values of = fc_wino_values_of(p, f);
    int64_t count = 0;
    for (int64_t i = 0, k = 0; i < n; i++)
      for (int a = y; a < y + of.high; a++)
        for (int b = x; b < x + of.wide; b++, k++)
          if (high[i] >> a & wide[i] >> b & 1) {
            at[count] = v + (of.first * patches + k * s.sc) * es;
            to[count++] = of.first * products + k * s.dc;
          }
    if (!count) continue;
    const fc_product prod = {
        kn, es, count, fc_round_up(p->dst_channels, kn->vl), p->src_channels, fc_product_kstep(kn, p->src_channels), 0};
    const fc_rows rows = {at, p->src_channels, count};
    const fc_operand filters = {.packed = fc_wino_filters(p, j->packed, g, f)};
    fc_product_piece(&prod, (fc_operand){.rows = &rows}, filters, 0, count, 0, prod.n, &out, &none, &plain, strip);
  }
  w.step = s.grid.step;
  w.tile = s.dc;
  w.frequency = products;
  for (int64_t t = t0; t < t1; t += r.n) {
    r = fc_wino_run_at(&s.grid, t, t1);
    w.from = (t - t0) * s.dc;
    w.tiles = r.n;
    for (int64_t c = 0; c < p->dst_channels; c += kn->vl) {
      w.plane = m + c * es;
      kn->wino2_output(&w);
      fc_wino_write(j, &w, &r, g, c);
    }
  }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, nthreads);
  j->threads = nthreads;
  j->scratch = s.total;
  return j->p->d.groups * s.cut.count;
}

const fc_algorithm fc_conv_winograd_strided = {
    .name = "winograd_4x4_3x3_stride2",
    .directions = FC_OF_IMAGES,
    .refuse = fc_wino2_refuse,
    .packed = fc_wino_packed,
    .pack = fc_wino_pack,
    .pieces = pieces,
    .run = piece,
    .slow = fc_wino2_slow,
    .tile = fc_wino_tile,
};
