/* Winograd where there are more filters than patches: transformed, they are four times what they were, and longer in
 * coming from memory than in the making. The patches of a round of tiles are transformed for all to read. Then a piece has
 * a panel of result channels: it transforms their filters, unless they come so, multiplies, and transforms back. */
#include "conv/winograd.h"

/* Tiles of a round. */
#define FC_WINO_ROUND 144

/* It pays from so many bytes of transformed filters on, where one round does; where it takes more. Filters that come
 * transformed want some tiles for each panel. */
#define FC_WINO_FEW (2 * 1024 * 1024)
#define FC_WINO_MANY (16 * 1024 * 1024)
#define FC_WINO_SOME 9

typedef struct sizes {
  fc_wino_grid grid;
  int64_t tiles, rounds;      /* of a round; how many */
  int64_t sc, columns;        /* source channels, whole vectors; pixels of a strip's rows */
  int64_t patches, filters, products; /* elements from frequency to frequency */
  int64_t u, m, strip, zeros, tables;
} sizes;

static sizes size(const fc_conv_plan *p, int packed) {
  const fc_kernels *kn = p->kn;
  sizes s = {.grid = fc_wino_tiles(p), .sc = fc_round_up(p->src_channels, kn->vl)};
  s.rounds = fc_div_up(s.grid.all, FC_WINO_ROUND);
  s.tiles = fc_div_up(s.grid.all, s.rounds);
  s.columns = fc_wino_columns(&s.grid, s.tiles, s.grid.step, FC_WINO_SIDE);
  s.patches = fc_wino_stride(fc_wino_window_most(p, &s.grid, s.tiles) * s.sc, p->es);
  s.filters = fc_wino_stride(p->d.ker[0] * p->src_channels * kn->nr, p->es);
  s.products = fc_wino_stride(s.tiles * kn->nr, p->es);
  s.u = packed ? 0 : FC_WINO_FREQUENCIES * s.filters * p->es;
  s.m = FC_WINO_FREQUENCIES * s.products * p->es;
  s.strip = fc_round_up(FC_WINO_SIDE * s.columns * kn->vl * p->es, FC_ALIGN);
  s.zeros = fc_round_up(s.sc * p->es, FC_ALIGN);
  s.tables = fc_round_up(p->d.ker[0] * s.tiles * (int64_t)sizeof(void *), FC_ALIGN);
  return s;
}

/* Elements of a panel's filters. */
static int64_t panel_elements(const fc_conv_plan *p) {
  return FC_WINO_FREQUENCIES * fc_wino_stride(p->d.ker[0] * p->src_channels * p->kn->nr, p->es);
}

static int64_t packed_elements(const fc_conv_plan *p) {
  return p->d.groups * fc_div_up(p->dst_channels, p->kn->nr) * panel_elements(p);
}

/* The filters of the result channels from l on, to u; the sums of their magnitudes, to part. */
static void transform_filters(const fc_conv_plan *p, const char *w, int64_t group, int64_t l, char *u, void *part) {
  const int64_t es = p->es, nr = p->kn->nr, taps = fc_product3(p->d.ker), step = fc_filter_step(p);
  fc_filter_memory rows;
  int order[FC_WINO_TAPS];
  fc_wino_order(p, order);
  for (int64_t c = 0; c < p->src_channels; c += step) {
    const int64_t c1 = fc_min(p->src_channels, c + step);
    fc_filter_rows(p, w + group * p->d.ocg * p->d.w_stride[0] * es, (int)nr, l, c, c1, &rows);
    fc_range_filters(p, &rows, c1 - c, part);
    for (int64_t i = 0; i < p->d.ker[0]; i++) {
      const fc_wino t = {.strip = (char *)&rows + fc_wino_tap(p, i) * p->d.ker[1] * p->d.ker[2] * nr * es,
                         .plane = u + (i * p->src_channels + c) * nr * es,
                         .columns = taps,
                         .step = fc_wino_step(p),
                         .tiles = c1 - c,
                         .tile = nr,
                         .frequency = fc_wino_stride(p->d.ker[0] * p->src_channels * nr, es)};
      p->kn->wino_weights(&t, order);
    }
  }
  fc_range_close(p, part);
}

typedef struct pack_call {
  const fc_conv_plan *p;
  const char *w;
  char *packed;
} pack_call;

static void pack_piece(void *ctx, int64_t index, int worker) {
  (void)worker;
  const pack_call *j = ctx;
  const int64_t nr = j->p->kn->nr, panels = fc_div_up(j->p->dst_channels, nr);
  transform_filters(j->p, j->w, index / panels, index % panels * nr, j->packed + index * panel_elements(j->p) * j->p->es,
                    fc_range_open(j->p, fc_range_packed(j->p, j->packed), index));
}

static int pack(const fc_conv_plan *p, const void *w, void *packed, int nthreads) {
  pack_call j = {p, w, packed};
  return fc_parallel_for(fc_conv_packers(p, nthreads), p->d.groups * fc_div_up(p->dst_channels, p->kn->nr), pack_piece, &j);
}

/* Tiles t0..t1 of a group. */
typedef struct job {
  const fc_conv_call *call;
  sizes s;
  int64_t group, t0, t1;
  fc_wino_patch window[FC_WINO_DEPTH];
} job;

static char *scratch_of(const job *t, int worker) { return t->call->workspace + t->call->shared + worker * t->call->scratch; }

static void patches(void *ctx, int64_t index, int worker) {
  const job *t = ctx;
  const fc_conv_plan *p = t->call->p;
  const int64_t c = index * p->kn->vl;
  fc_wino_run r;
  for (const fc_wino_patch *x = t->window; x < t->window + p->d.ker[0]; x++)
    for (int64_t i = 0; i < x->count; i += r.n) {
      r = fc_wino_run_at(&t->s.grid, x->source + i, x->source + x->count);
      const fc_wino w = {.strip = scratch_of(t, worker),
                         .plane = t->call->workspace + ((x->at + i) * t->s.sc + c) * p->es,
                         .columns = t->s.columns,
                         .step = t->s.grid.step,
                         .tiles = r.n,
                         .tile = t->s.sc,
                         .frequency = t->s.patches};
      fc_wino_patches(t->call, &w, &r, t->group, c);
    }
}

static void piece(void *ctx, int64_t index, int worker) {
  const job *t = ctx;
  const fc_conv_call *j = t->call;
  const fc_conv_plan *p = j->p;
  const fc_kernels *kn = p->kn;
  const sizes *s = &t->s;
  const int64_t es = p->es, nr = kn->nr, l = index * nr, lanes = fc_min(nr, p->dst_channels - l);
  char *strip = scratch_of(t, worker), *m = strip + s->strip, *zeros = m + s->m, *tables = zeros + s->zeros,
       *u = tables + s->tables;
  if (j->packed)
    u = (char *)j->packed + (t->group * fc_div_up(p->dst_channels, nr) + index) * panel_elements(p) * es;
  else
    transform_filters(p, j->second, t->group, l, u, fc_range_open(p, j->filters, t->group * fc_range_parts(p) + index));
  memset(zeros, 0, (size_t)s->zeros);
  const fc_wino_product product = {.w = t->window,
                                   .t0 = t->t0,
                                   .t1 = t->t1,
                                   .columns = fc_round_up(lanes, kn->vl),
                                   .patches = j->workspace,
                                   .filters = u,
                                   .zeros = zeros,
                                   .products = m,
                                   .patch = s->sc,
                                   .patches_apart = s->patches,
                                   .filters_apart = s->filters,
                                   .product = nr,
                                   .products_apart = s->products,
                                   .at = (const void **)tables};
  fc_wino_multiply(p, &s->grid, &product);
  fc_wino_run r;
  for (int64_t c = 0; c < lanes; c += kn->vl)
    for (int64_t i = t->t0; i < t->t1; i += r.n) {
      r = fc_wino_run_at(&s->grid, i, t->t1);
      const fc_wino w = {.strip = strip,
                         .plane = m + ((i - t->t0) * nr + c) * es,
                         .columns = s->columns,
                         .step = s->grid.step,
                         .tiles = r.n,
                         .tile = nr,
                         .frequency = s->products};
      fc_wino_results(j, &w, &r, t->group, l + c);
    }
}

static int64_t pieces(fc_conv_call *j, int nthreads) {
  const sizes s = size(j->p, 0);
  (void)nthreads;
  j->scratch = s.strip + s.u + s.m + s.zeros + s.tables;
  j->shared = FC_WINO_FREQUENCIES * s.patches * j->p->es + fc_range_parts_bytes(j->p);
  return fc_div_up(j->p->dst_channels, j->p->kn->nr);
}

static int execute(fc_conv_call *j, int nthreads) {
  const fc_conv_plan *p = j->p;
  const int64_t n = pieces(j, nthreads);
  job t = {.call = j, .s = size(p, j->packed != 0)};
  if (!j->packed) j->filters = (j->workspace + FC_WINO_FREQUENCIES * t.s.patches * p->es);
  int status = FC_OK;
  for (t.group = 0; t.group < p->d.groups; t.group++)
    for (t.t0 = 0; t.t0 < t.s.grid.all && !status; t.t0 = t.t1) {
      t.t1 = fc_min(t.s.grid.all, t.t0 + t.s.tiles);
      fc_wino_window(p, &t.s.grid, t.t0, t.t1, t.window);
      status = fc_parallel_for(nthreads, t.s.sc / p->kn->vl, patches, &t);
      if (!status) status = fc_parallel_for(nthreads, n, piece, &t);
    }
  return status;
}

static const char *slow(const fc_conv_plan *p) {
  const char *why = fc_wino_slow(p);
  if (why) return why;
  const int64_t bytes = FC_WINO_FREQUENCIES * p->d.ker[0] * p->src_channels * p->dst_channels * p->es,
                tiles = fc_wino_tiles(p).all;
  const int one = tiles <= FC_WINO_ROUND;
  if (p->d.packed ? !one || tiles < FC_WINO_SOME || bytes < FC_WINO_FEW : bytes < (one ? FC_WINO_FEW : FC_WINO_MANY))
    return "the transformed filters stay in cache, or are read too often";
  return 0;
}

const fc_algorithm fc_conv_winograd_filters_3x3 = {
    .name = "winograd_4x4_3x3_filters",
    .directions = FC_OF_IMAGES,
    .parameter = 3,
    .refuse = fc_wino_refuse,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .slow = slow,
    .tile = fc_wino_tile,
    .execute = execute,
};
const fc_algorithm fc_conv_winograd_filters_5x5 = {
    .name = "winograd_2x2_5x5_filters",
    .directions = FC_OF_IMAGES,
    .parameter = 5,
    .refuse = fc_wino_refuse,
    .packed = packed_elements,
    .pack = pack,
    .pieces = pieces,
    .slow = slow,
    .tile = fc_wino_tile,
    .execute = execute,
};
